//! How many connections there were at a time.

use std::time::{Duration, Instant};

use fake_upstream::{ConnectionSeen, Seen};

use super::scene::Scene;

/// The longest that two connections of a user may be there side by side: a hand-over to a session that has to be subscribed to all spaces,
/// while it is interfered with.
const LONGEST: Duration = Duration::from_secs(20);

/// A token has one connection, at any time, and a user has another one beside it only while a newer token takes the place of an older one.
/// Answers what was seen.
pub(super) fn one_for_each_token(scene: &Scene, seen: &Seen) -> String {
    for connection in seen.connections() {
        let peak = seen.peak_with(&connection.token);
        assert_eq!(peak, 1, "there were {peak} connections of one token at the same time");
    }
    let (mut handovers, mut longest) = (0, Duration::ZERO);
    for (number, account) in scene.accounts.iter().enumerate() {
        let mut before: Vec<&ConnectionSeen> = Vec::new();
        for connection in account.connections(seen) {
            before.retain(|open| end(open) > begin(connection));
            assert!(before.len() <= 1, "account {number} had {} connections and got another one", before.len());
            for older in &before {
                assert!(account.is_managed(), "account {number} has one token and had two connections");
                handovers += 1;
                let together = end(older).min(end(connection)).duration_since(begin(connection));
                longest = longest.max(together);
            }
            before.push(connection);
        }
    }
    assert!(handovers > 0, "no token was handed over, so this shows nothing");
    assert!(longest < LONGEST, "two connections of a user stood side by side for {longest:?}");
    format!("{} connections, {handovers} hand-overs, of which the longest took {longest:?}", seen.opened())
}

fn begin(connection: &ConnectionSeen) -> Instant {
    connection.joined_at.expect("its user is known since it joined")
}

/// When it ended, as far as is known.
fn end(connection: &ConnectionSeen) -> Instant {
    connection.closed_at.unwrap_or_else(Instant::now)
}
