//! What happens to Spaces, to the connections, to the receivers and to the service.

use std::time::Duration;

use fake_upstream::{EchoFault, EventFault, Expiry, Fault, Refusal, RestFault, SendFault, SendRefusal, SubscribeFault, Who};

use super::chance::Chance;
use super::scene::Scene;
use crate::support::receiver::Reply;

/// The two listings of what happened before, and the other calls that the service makes.
const ACTIVITY: &str = "/api/activitiesrecord/messages";
const MESSAGES: &str = "/api/spaces/*/messages/query";
const GRANT: &str = "POST /oauth2/access_token";
const POST_CHAT: &str = "POST /api/spaces/*/chats";
const OTHER_CALLS: [&str; 3] = ["/api/users/me", "/api/users/me/spaces", "/api/spaces/*/join"];

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blow {
    /// The connection breaks, in one of several ways.
    Break,
    /// The server drops the client from the namespace.
    Kick,
    /// The connection goes silent, and later breaks or goes on if it is still there.
    Freeze,
    /// The connection is there and answers the heartbeat, and nothing else comes over it.
    Deafen,
    /// The connection breaks while a message is on its way, before or after Spaces has stored it.
    BreakSend,
    /// Spaces does not let the next connections in.
    RefuseJoin,
    /// Spaces refuses a token for a moment although it is good.
    RefuseToken,
    /// A token that the service can renew ends before its time.
    EndToken,
    /// The service asks for a token and gets none, or late.
    FailingRenewal,
    /// Echoes do not come, come late, twice, or without their reference.
    Echo,
    /// Spaces refuses a message.
    RefuseMessage,
    /// Events come twice.
    Twice,
    /// A subscription is confirmed late or twice.
    Subscribe,
    /// A listing of the history is slow.
    SlowHistory,
    /// A listing of the history fails.
    FailingHistory,
    /// Another call over REST fails, or is carried out and not answered.
    FailingRest,
    /// A receiver fails.
    Receiver,
}

/// All, as often as they are to come.
const BLOWS: &[(Blow, usize)] = &[
    (Blow::Break, 12),
    (Blow::Kick, 5),
    (Blow::Freeze, 5),
    (Blow::Deafen, 3),
    (Blow::BreakSend, 8),
    (Blow::RefuseJoin, 5),
    (Blow::RefuseToken, 1),
    (Blow::EndToken, 4),
    (Blow::FailingRenewal, 2),
    (Blow::Echo, 8),
    (Blow::RefuseMessage, 1),
    (Blow::Twice, 3),
    (Blow::Subscribe, 3),
    (Blow::SlowHistory, 4),
    (Blow::FailingHistory, 6),
    (Blow::FailingRest, 4),
    (Blow::Receiver, 4),
];

impl Blow {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let all = BLOWS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = chance.below(all);
        let found = BLOWS.iter().find(|(_, weight)| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        found.expect("the weights add up").0
    }

    #[expect(clippy::too_many_lines, reason = "the list of all blows")]
    pub(super) fn strike(self, scene: &Scene, chance: &mut Chance) {
        let account = chance.pick(&scene.accounts);
        let upstream = &scene.upstream;
        let (token, who) = (&upstream.seen(|seen| account.token(seen)), Who::user(&account.user.id));
        match self {
            Self::Break => {
                let how = chance.pick(&[Fault::Cut, Fault::Reset, Fault::Close, Fault::CloseWith(1001), Fault::Disconnect]);
                let who = if chance.once_in(6) { Who::Everybody } else { who };
                upstream.fault(&who, how);
            }
            Self::Kick => {
                upstream.fault(&who, &Fault::Kick);
            }
            Self::Freeze => {
                upstream.fault(&who, &Fault::Freeze);
                let (ends_after, end) = (chance.millis(200, 2_500), chance.pick(&[Fault::Cut, Fault::Thaw]).clone());
                let upstream = std::sync::Arc::clone(upstream);
                tokio::spawn(async move {
                    tokio::time::sleep(ends_after).await;
                    upstream.fault(&who, &end);
                });
            }
            Self::Deafen => {
                upstream.fault(&who, &Fault::Deafen);
            }
            Self::BreakSend => {
                let how = chance.pick(&[Fault::Cut, Fault::Reset, Fault::Disconnect]).clone();
                let blow = if chance.once_in(2) { SendFault::BeforeStoring(how) } else { SendFault::AfterStoring(how) };
                upstream.script_for(token, |script| {
                    script.send_fault.next(1, blow);
                });
            }
            Self::RefuseJoin => {
                let unavailable = Refusal::http(503, "try later");
                let how =
                    chance.pick(&[unavailable, Refusal::Hangup, Refusal::Unanswered, Refusal::Close, Refusal::Kick]).clone();
                let times = chance.between(1, 2);
                if chance.once_in(3) {
                    // Whoever comes, with whichever token: in a hand-over it is a new one.
                    upstream.script(|script| {
                        script.refuse.next(times, how);
                    });
                } else {
                    upstream.script_for(token, |script| {
                        script.refuse.next(times, how);
                    });
                }
            }
            Self::RefuseToken => {
                let how = chance.pick(&[Refusal::http(401, "Unauthorized"), Refusal::Text("Not authorized".to_owned())]).clone();
                upstream.script_for(token, |script| {
                    script.refuse.next(1, how);
                });
            }
            Self::EndToken => end_token(scene, chance),
            Self::FailingRenewal => {
                let slow = RestFault::Slow(chance.millis(100, 600));
                let how = if chance.once_in(2) { slow } else { failing(chance) };
                upstream.script(|script| {
                    script.rest.on(GRANT).next(1, how);
                });
            }
            Self::Echo => {
                let late = EchoFault::Late(chance.millis(50, 1_500));
                let how = chance.pick(&[EchoFault::Missing, late, EchoFault::WithoutLoopback, EchoFault::Twice]).clone();
                let times = chance.between(1, 3);
                upstream.script_for(token, |script| {
                    script.echo.next(times, how);
                });
            }
            Self::RefuseMessage => {
                upstream.script_for(token, |script| {
                    script.send_refusal.next(1, SendRefusal::policy());
                });
            }
            Self::Twice => {
                let times = chance.between(1, 3);
                upstream.script(|script| {
                    script.events.next(times, EventFault::Twice);
                });
            }
            Self::Subscribe => {
                let late = SubscribeFault::Late(chance.millis(50, 800));
                let how = chance.pick(&[late, SubscribeFault::AnsweredTwice]).clone();
                upstream.script_for(token, |script| {
                    script.subscribe.next(2, how);
                });
            }
            Self::SlowHistory => {
                let (pattern, slow) = (*chance.pick(&[ACTIVITY, MESSAGES]), RestFault::Slow(chance.millis(100, 900)));
                let times = chance.between(1, 6);
                upstream.script(|script| {
                    script.rest.on(pattern).next(times, slow);
                });
            }
            Self::FailingHistory => fail_history(scene, chance),
            Self::FailingRest => {
                let post = chance.once_in(3).then(|| chance.pick(&[RestFault::CutAfter, RestFault::Cut]).clone());
                let (pattern, fault) = match post {
                    Some(fault) => (POST_CHAT, fault),
                    None => (*chance.pick(&OTHER_CALLS), failing(chance)),
                };
                upstream.script(|script| {
                    script.rest.on(pattern).next(1, fault);
                });
            }
            Self::Receiver => {
                // Few enough in a row that the endpoint does not count as dead, which would hold its deliveries for long.
                let reply = chance.pick(&[Reply::status(503), Reply::Close, Reply::BreakInBody, Reply::status(404)]).clone();
                account.receiver.script(vec![reply; chance.below(3) + 1]);
            }
        }
    }
}

/// Lets a token end that the service can renew; its connection notices in one of several ways, or not at all.
fn end_token(scene: &Scene, chance: &mut Chance) {
    let managed: Vec<_> = scene.accounts.iter().filter(|account| account.is_managed()).collect();
    let token = scene.upstream.seen(|seen| chance.pick(&managed).token(seen));
    let expired = Fault::Frame("44/chat,\"jwt expired\"".to_owned());
    let how = chance.pick(&[Expiry::Kept, Expiry::Fault(Fault::Cut), Expiry::Fault(Fault::Kick), Expiry::Fault(expired)]).clone();
    scene.upstream.script_for(&token, |script| {
        script.expiry.next(1, how);
    });
    scene.upstream.expire(&token);
}

/// Lets one listing of the history fail for a few calls, or both.
fn fail_history(scene: &Scene, chance: &mut Chance) {
    let both = [ACTIVITY, MESSAGES];
    let (fault, times) = (failing(chance), chance.between(1, 4));
    let patterns = if chance.once_in(3) { &both[..] } else { &both[..1] };
    scene.upstream.script(|script| {
        for pattern in patterns {
            script.rest.on(pattern).next(times, fault.clone());
        }
    });
}

/// A call over REST that fails for now.
fn failing(chance: &mut Chance) -> RestFault {
    let garbled = RestFault::Garbled { content_type: "text/html".to_owned(), body: "<html>gateway</html>".to_owned() };
    let faults = [RestFault::status(500, "internal", "later"), RestFault::too_many(1), RestFault::Cut, RestFault::Hang, garbled];
    chance.pick(&faults).clone()
}

impl Chance {
    fn millis(&mut self, least: u32, most: u32) -> Duration {
        Duration::from_millis(self.between(least, most).into())
    }
}

/// Ends everything that goes wrong.
pub(super) fn heal(scene: &Scene) {
    scene.upstream.clear_script();
    scene.upstream.release();
}
