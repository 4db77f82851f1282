//! Every way in which Spaces fails, as its contract classes them, and what its users notice of it: one test for each class.

use std::time::Duration;

use fake_upstream::{
    EchoFault, Expiry, FakeUpstream, Fault, Options, Place, Refusal, RestFault, Seen, SendRefusal, SubscribeFault, Who,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{ADMIN_KEY, Bridge, Scene, send};
use crate::support::suite_log::note_secret;
use crate::support::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

async fn seen(upstream: &FakeUpstream, what: impl FnMut(&Seen) -> bool) {
    upstream.wait_until(DEADLINE, what).await.expect("to be seen");
}

/// Ana listens to the space.
async fn listens(bridge: &Bridge, scene: &Scene) {
    let answer = bridge.put(&format!("/spaces/{}/subscription", scene.space.as_ref()), &scene.token).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

/// The events of Ana's account about messages, as text and whether they were read from the history.
async fn told(bridge: &Bridge, scene: &Scene) -> Vec<(String, bool)> {
    let page = bridge.get("/events?limit=200&type=message.created", &scene.token).await.json();
    let events = page["data"].as_array().expect("a page").iter();
    let told = events.map(|event| {
        let text = event["data"]["message"]["text"].as_str().unwrap_or_default();
        (text.to_owned(), event["data"]["recovered"] == true)
    });
    told.collect()
}

/// How Ana's session stands to a space.
async fn channel_state(bridge: &Bridge, space: &str) -> Value {
    let channels = bridge.session().await["spaces"].as_array().cloned().unwrap_or_default();
    channels.iter().find(|channel| channel["spaceId"] == space).map(|channel| channel["state"].clone()).unwrap_or_default()
}

/// Makes an account of Ana's whose tokens the service renews, and waits until it is connected.
async fn managed(bridge: &Bridge, scene: &Scene) -> String {
    let refresh_token = scene.upstream.with_world(|world| world.refresh_token_for(&scene.ana));
    note_secret(&refresh_token);
    let credential = json!({"kind": "oauth_refresh", "clientId": "c", "clientSecret": "secret-of-this-client",
        "refreshToken": refresh_token});
    let request = bridge.plain(Method::POST, &format!("{}/accounts", bridge.internal));
    let request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
    let answer = send(request.json(&json!({"name": "lift", "credential": credential}))).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    connected(scene, "").await
}

/// What someone shows who has a bridge key of Ana's account.
async fn key(bridge: &Bridge, scene: &Scene) -> String {
    let request = bridge.plain(Method::POST, &format!("{}/accounts/acc_{}/keys", bridge.internal, scene.ana.id));
    let request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
    let answer = send(request.json(&json!({"name": "a system", "scopes": ["send", "read"]}))).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let key = answer.json()["key"].as_str().expect("a key").to_owned();
    note_secret(&key);
    format!("Bearer {key}")
}

/// The token with which Ana is connected, once it is another one than `before` and the only one.
async fn connected(scene: &Scene, before: &str) -> String {
    let look = |seen: &Seen| {
        let open: Vec<_> =
            seen.connections().filter(|connection| connection.closed_at.is_none() && connection.joined_at.is_some()).collect();
        match open.as_slice() {
            [only] if *only.token != *before => Some(only.token.to_string()),
            _ => None,
        }
    };
    let token = scene.upstream.wait_for(DEADLINE, look).await.expect("a connection");
    note_secret(&token);
    token
}

fn grants(seen: &Seen) -> usize {
    seen.rest_count("POST", "/oauth2/access_token")
}

/// Each shape of an answer that speaks of the token.
fn refused() -> [Refusal; 5] {
    [
        Refusal::Text("Not authorized".to_owned()),
        Refusal::Object(json!({"message": "jwt expired", "data": {"code": 401}})),
        Refusal::RootText("Not authorized".to_owned()),
        Refusal::http(401, "Unauthorized"),
        Refusal::http(403, "Forbidden"),
    ]
}

/// Each shape of none.
fn turned_away() -> [Refusal; 3] {
    [Refusal::Silence, Refusal::Close, Refusal::Kick]
}

#[tokio::test]
async fn authentication_renews_once_and_connects_anew_and_the_second_refusal_is_told() {
    for shape in refused() {
        let scene = Scene::new().await;
        let bridge = Bridge::start(&scene.upstream).await;
        let first = managed(&bridge, &scene).await;
        scene.upstream.script(|script| {
            script.bad_token.always(shape.clone());
            script.expiry.always(Expiry::Fault(Fault::Cut));
        });
        scene.upstream.expire(&first);
        connected(&scene, &first).await;
        assert_eq!(scene.upstream.seen(grants), 2, "{shape:?}: one for the first token, one more");

        scene.upstream.script(|script| {
            script.refuse.always(shape.clone());
        });
        scene.upstream.fault(&Who::Everybody, &Fault::Cut);
        let session = eventually("the end of it", async || {
            let sessions = bridge.operator(Method::GET, "/sessions").await.json();
            let sessions = sessions["data"].as_array().expect("a list").clone();
            sessions.into_iter().find(|session| session["state"] == "auth_failed")
        })
        .await;
        assert!(session["reason"].is_string(), "{session}");
        assert_eq!(scene.upstream.seen(grants), 2, "{shape:?}: the renewed token is not renewed again and again");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_calls_refuse_is_refused_to_its_bearer() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.get("/spaces", &scene.token).await.status, StatusCode::OK);
    scene.upstream.script(|script| {
        script.expiry.always(Expiry::Kept);
    });
    scene.upstream.expire(&scene.token);
    bridge.get("/spaces", &scene.token).await.assert_problem(401, "token_refused");
    bridge.stop().await;
}

#[tokio::test]
async fn a_managed_token_that_only_calls_refuse_is_renewed_once_and_the_connection_stands_until_then() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let first = managed(&bridge, &scene).await;
    let key = key(&bridge, &scene).await;
    let spaces = async || send(bridge.plain(Method::GET, &format!("{}/spaces", bridge.api)).header("authorization", &key)).await;
    assert_eq!(spaces().await.status, StatusCode::OK);
    scene.upstream.script(|script| {
        script.expiry.always(Expiry::Kept);
    });
    scene.upstream.expire(&first);
    // Whoever has a key cannot help it.
    spaces().await.assert_problem(503, "account_token_refused");
    let second = connected(&scene, &first).await;
    eventually("calls that are taken again", async || (spaces().await.status == StatusCode::OK).then_some(())).await;
    assert_eq!(scene.upstream.seen(grants), 2, "one for the first token, one more");
    let (old, new) = scene.upstream.seen(|seen| {
        let only =
            |token: &str| seen.connections_with(token).next().map(|connection| (connection.joined_at, connection.closed_at));
        (only(&first).expect("the first"), only(&second).expect("the second"))
    });
    assert!(new.0 < old.1, "the new connection joined before the old one went");

    scene.upstream.expire(&second);
    for number in 0..20 {
        spaces().await.assert_problem(503, "account_token_refused");
        let path = format!("{}/spaces/{}/messages", bridge.api, scene.space.as_ref());
        let request = bridge.plain(Method::POST, &path).header("authorization", &key);
        let answer = send(request.json(&json!({"text": format!("over the socket {number}")}))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }
    assert_eq!(scene.upstream.seen(grants), 2, "the renewed token is not renewed again and again");
    bridge.stop().await;
}

#[tokio::test]
async fn admission_is_tried_again_and_counts_as_a_refusal_when_it_goes_on() {
    for shape in turned_away() {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.refuse.next(1, shape.clone());
        });
        let bridge = Bridge::start_with(&scene.upstream, |config| {
            config.upstream.connect_timeout_seconds = 1;
            config.upstream.rest_fallback_seconds = 0;
        })
        .await;
        let answer = bridge.say_within(60, &scene.token, &scene.space, "in the end").await;
        assert_eq!(answer.status, StatusCode::CREATED, "{shape:?}: {}", answer.text);
        assert_eq!(scene.upstream.seen(|seen| (seen.refused(), seen.peak_with(&scene.token))), (1, 1), "{shape:?}");

        let other = scene.bos_token();
        // Nothing else vouches for this one.
        scene.upstream.script(|script| {
            script.rest.on("/api/users/me").always(RestFault::Hang);
        });
        scene.upstream.script_for(&other, |script| {
            script.refuse.always(shape.clone());
        });
        let answer = bridge.say_within(60, &other, &scene.space, "never").await;
        answer.assert_problem(401, "token_refused");
        assert_eq!(scene.texts(), ["in the end"], "{shape:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_lost_transport_is_connected_anew_subscribed_again_and_caught_up() {
    let options =
        || Options { ping_interval: Duration::from_millis(500), ping_timeout: Duration::from_secs(2), ..Options::default() };
    for fault in [Fault::Kick, Fault::Disconnect, Fault::Close, Fault::Cut, Fault::Reset, Fault::Freeze] {
        let scene = Scene::with(options()).await;
        let other = scene.upstream.space("Other", &[&scene.ana, &scene.bo]);
        let bridge = Bridge::start(&scene.upstream).await;
        listens(&bridge, &scene).await;
        let path = format!("/spaces/{}/subscription", other.as_ref());
        assert_eq!(bridge.put(&path, &scene.token).await.status, StatusCode::OK);
        scene.upstream.post_as(&scene.bo, &scene.space, "before").expect("Bo is a member");
        eventually("the first event", async || (told(&bridge, &scene).await.len() == 1).then_some(())).await;

        scene.upstream.fault(&Who::token(&scene.token), &fault);
        scene.upstream.post_as(&scene.bo, &scene.space, "meanwhile").expect("Bo is a member");
        seen(&scene.upstream, |seen| {
            seen.opened_with(&scene.token) == 2
                && [&scene.space, &other].iter().all(|space| seen.is_subscribed(&scene.token, space.as_ref()))
        })
        .await;
        let events = eventually("what was missed", async || {
            let events = told(&bridge, &scene).await;
            (events.len() > 1).then_some(events)
        })
        .await;
        assert_eq!(events, [("before".to_owned(), false), ("meanwhile".to_owned(), true)], "{fault:?}");
        assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1, "{fault:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_refused_channel_is_joined_and_tried_once_more_and_then_marked_alone() {
    for refusals in [1, 2] {
        let scene = Scene::new().await;
        let other = scene.upstream.space("Other", &[&scene.ana, &scene.bo]);
        let bridge = Bridge::start(&scene.upstream).await;
        listens(&bridge, &scene).await;
        scene.upstream.script(|script| {
            let (code, message) = ("join.first".to_owned(), "join the space first".to_owned());
            script.subscribe.next(refusals, SubscribeFault::Refused { code, message, with_channel: true });
        });
        let answer = bridge.put(&format!("/spaces/{}/subscription", other.as_ref()), &scene.token).await;
        let join = format!("/api/spaces/{}/join", other.as_ref());
        assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", &join)), 1);
        assert_eq!(scene.upstream.seen(|seen| seen.emits_of("SUBSCRIBE_CHANNEL").count()), 3);
        let expected = if refusals == 1 { "subscribed" } else { "refused" };
        assert_eq!(answer.status.is_success(), refusals == 1, "{}", answer.text);
        assert_eq!(channel_state(&bridge, other.as_ref()).await, expected);
        assert_eq!(channel_state(&bridge, scene.space.as_ref()).await, "subscribed", "the other one is as it was");
        assert_eq!(bridge.say(&scene.token, &scene.space, "goes on").await.status, StatusCode::CREATED);
        bridge.stop().await;
    }
}

#[tokio::test]
async fn an_unanswered_subscription_is_asked_for_once_more() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.subscribe.next(1, SubscribeFault::Ignored);
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.say_within(60, &scene.token, &scene.space, "heard in the end").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(scene.upstream.seen(|seen| (seen.emits_of("SUBSCRIBE_CHANNEL").count(), seen.opened_with(&scene.token))), (2, 1));
    bridge.stop().await;
}

#[tokio::test]
async fn a_subscription_that_is_never_answered_is_marked_alone() {
    let scene = Scene::new().await;
    let other = scene.upstream.space("Other", &[&scene.ana, &scene.bo]);
    let bridge = Bridge::start(&scene.upstream).await;
    listens(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.subscribe.next(2, SubscribeFault::Ignored);
    });
    let asked = bridge.put(&format!("/spaces/{}/subscription", other.as_ref()), &scene.token).await;
    assert!(!asked.status.is_success(), "{}", asked.text);
    eventually("the mark", async || (channel_state(&bridge, other.as_ref()).await == "refused").then_some(())).await;
    let join = format!("/api/spaces/{}/join", other.as_ref());
    assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", &join)), 1);
    assert_eq!(scene.upstream.seen(|seen| seen.emits_of("SUBSCRIBE_CHANNEL").count()), 3, "one for the other, two for this one");
    assert_eq!(channel_state(&bridge, scene.space.as_ref()).await, "subscribed", "the other one is as it was");
    assert_eq!(bridge.say(&scene.token, &scene.space, "goes on").await.status, StatusCode::CREATED);
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_the_policy_forbids_is_sent_once() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::policy());
    });
    bridge.say(&scene.token, &scene.space, "forbidden").await.assert_problem(403, "message_forbidden");
    assert_eq!(bridge.say(&scene.token, &scene.space, "allowed").await.status, StatusCode::CREATED);
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
    assert_eq!(scene.texts(), ["allowed"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_lost_subscription_is_made_again_and_the_message_sent_once_more_wherever_it_is_said() {
    for place in [Place::Error, Place::ErrorCode, Place::Category, Place::Type, Place::Code] {
        for refusals in [1, 2] {
            let scene = Scene::new().await;
            let bridge = Bridge::start(&scene.upstream).await;
            listens(&bridge, &scene).await;
            scene.upstream.script(|script| {
                script.send_refusal.next(refusals, SendRefusal::SubscriptionRequired(place));
            });
            let answer = bridge.say(&scene.token, &scene.space, "once more").await;
            if refusals == 1 {
                assert_eq!(answer.status, StatusCode::CREATED, "{place:?}: {}", answer.text);
                assert_eq!(scene.texts(), ["once more"]);
            } else {
                answer.assert_problem(409, "subscription_required");
                assert_eq!(scene.texts(), Vec::<String>::new());
            }
            assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2, "{place:?}");
            bridge.stop().await;
        }
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_for_and_never_sent_again() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    listens(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::Silence);
    });
    let answer = bridge.say_within(1, &scene.token, &scene.space, "in doubt").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    // What follows on a new connection changes nothing.
    scene.upstream.fault(&Who::token(&scene.token), &Fault::Cut);
    assert_eq!(bridge.say_within(60, &scene.token, &scene.space, "after").await.status, StatusCode::CREATED);
    eventually("the search", async || (bridge.session().await["recovery"]["spacesLeft"] == 0).then_some(())).await;
    assert_eq!(bridge.get(answer.header("location"), &scene.token).await.json()["status"], "unconfirmed");
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
    assert_eq!(scene.texts(), ["after"]);
    bridge.stop().await;

    // It was stored and nothing said so: the history tells.
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    listens(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Missing);
    });
    let answer = bridge.say_within(1, &scene.token, &scene.space, "in doubt").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    scene.upstream.fault(&Who::token(&scene.token), &Fault::Cut);
    eventually("the message in the history", async || {
        let record = bridge.get(answer.header("location"), &scene.token).await.json();
        (record["status"] == "confirmed").then_some(())
    })
    .await;
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 1);
    assert_eq!(scene.texts(), ["in doubt"]);
    bridge.stop().await;
}
