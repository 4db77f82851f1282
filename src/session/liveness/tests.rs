use proptest::prelude::*;

use super::*;

const SETTINGS: LivenessSettings =
    LivenessSettings { probe: Duration::from_mins(5), compare: Duration::from_mins(10), spread: 1.0 };

const WALL: Timestamp = Timestamp::from_millis(1_900_000_000_000);

fn space(id: &str) -> SpaceId {
    id.parse().expect("an id")
}

fn online(settings: LivenessSettings, now: Instant) -> Liveness {
    let mut liveness = Liveness::new(settings, now);
    liveness.connected(true, now);
    liveness
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_is_probed_and_counts_as_deaf_after_two_probes() {
    let mut now = Instant::now();
    let mut liveness = online(SETTINGS, now);
    assert_eq!(liveness.due(false, WALL, now), None);
    for _ in 0..TRIES {
        now = liveness.next_at().expect("a time");
        assert_eq!(liveness.due(false, WALL, now), Some(Due::Probe));
        liveness.probed(now);
        assert_eq!(liveness.due(false, WALL, now), None);
    }
    now += ANSWER_TIME;
    assert_eq!(liveness.due(false, WALL, now), Some(Due::Unanswered));
    assert!(liveness.reconnecting(&Deafness::ProbeUnanswered, now), "the first time is told");
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_the_doubt_and_is_no_subscriptions_refusal() {
    let mut now = Instant::now();
    let mut liveness = online(SETTINGS, now);
    assert!(!liveness.take_refusal(), "no probe is out");
    now += SETTINGS.probe;
    assert_eq!(liveness.due(false, WALL, now), Some(Due::Probe));
    liveness.probed(now);
    assert!(liveness.heard(now));
    assert!(liveness.take_refusal() && !liveness.take_refusal());
    assert_eq!(liveness.due(false, WALL, now + ANSWER_TIME), None);
    assert_eq!(liveness.due(false, WALL, now + SETTINGS.probe), Some(Due::Probe));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_talks_is_not_probed() {
    let mut now = Instant::now();
    let mut liveness = online(SETTINGS, now);
    for _ in 0..100 {
        now += Duration::from_secs(15);
        assert!(!liveness.heard(now));
        assert_eq!(liveness.due(false, WALL, now), None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_history_and_never_came_makes_deaf() {
    let mut now = Instant::now();
    let mut liveness = online(SETTINGS, now);
    let (a, at) = (space("a"), |seconds| WALL.saturating_add(Duration::from_secs(seconds)));
    liveness.subscribed(&a, WALL);
    liveness.saw("m1", at(100));
    now += SETTINGS.compare;
    assert_eq!(liveness.due(false, at(600), now), Some(Due::Probe), "the history cannot be read now");
    liveness.heard(now);
    let Some(Due::Compare(found, from)) = liveness.due(true, at(600), now) else { panic!("a comparison") };
    assert_eq!((&found, from), (&a, at(30)));
    assert_eq!(liveness.due(true, at(600), now), None, "one at a time");
    // Before the subscription, seen, and perhaps still on its way.
    let known = [("m0", at(10)), ("m1", at(100)), ("m2", at(590))];
    assert_eq!(liveness.compared(&a, from, Some(known.into_iter()), at(600)), Compared::Complete);
    let missing = [("m4", at(300)), ("m3", at(200)), ("m1", at(100))];
    assert_eq!(liveness.compared(&a, from, Some(missing.into_iter()), at(600)), Compared::Missing { since: at(200) });
    assert_eq!(liveness.compared(&a, from, None::<std::iter::Empty<_>>, at(600)), Compared::Unknown);
    liveness.disconnected();
    liveness.connected(true, now);
    liveness.subscribed(&a, at(590));
    assert_eq!(liveness.compared(&a, from, Some(missing.into_iter()), at(600)), Compared::Unknown, "of another connection");
}

#[tokio::test(start_paused = true)]
async fn spaces_take_turns() {
    let mut now = Instant::now();
    let mut liveness = online(LivenessSettings { probe: Duration::ZERO, ..SETTINGS }, now);
    for id in ["a", "b", "c"] {
        liveness.subscribed(&space(id), WALL);
    }
    let wall = WALL.saturating_add(Duration::from_hours(1));
    let mut order = Vec::new();
    for _ in 0..4 {
        now += SETTINGS.compare;
        let Some(Due::Compare(space, from)) = liveness.due(true, wall, now) else { panic!("a comparison") };
        liveness.compared(&space, from, Some(std::iter::empty()), wall);
        order.push(space.to_string());
    }
    assert_eq!(order, ["a", "b", "c", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_deafness_that_nothing_mends_is_told_once_and_waits_longer_each_time() {
    let mut now = Instant::now();
    let mut liveness = online(SETTINGS, now);
    let mut times = Vec::new();
    let mut told = 0;
    for _ in 0..600 {
        now += Duration::from_mins(1);
        match liveness.due(false, WALL, now) {
            Some(Due::Probe) => liveness.probed(now),
            Some(Due::Unanswered) => {
                times.push(now);
                told += u32::from(liveness.reconnecting(&Deafness::ProbeUnanswered, now));
                liveness.disconnected();
                liveness.connected(true, now);
            }
            Some(Due::Compare(..)) | None => {}
        }
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(told, 1);
    assert!(gaps.is_sorted() && gaps.last() > Some(&Duration::from_mins(50)) && times.len() < 20, "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_history_cannot_be_read_does_not_wake_all_the_time() {
    let begin = Instant::now();
    let (mut now, mut wakes) = (begin, 0);
    let mut liveness = online(LivenessSettings { probe: Duration::ZERO, ..SETTINGS }, now);
    while now < begin + Duration::from_hours(1) {
        now = liveness.next_at().expect("it is watched").max(now + Duration::from_millis(1));
        assert_eq!(liveness.due(false, WALL, now), None);
        wakes += 1;
    }
    assert!(wakes <= 240, "{wakes} wakes in an hour");
}

#[tokio::test(start_paused = true)]
async fn an_answered_probe_says_nothing_about_messages_that_do_not_come() {
    let mut now = Instant::now();
    let mut liveness = online(SETTINGS, now);
    let missing = Deafness::EventsMissing(space("a"));
    assert!(liveness.reconnecting(&missing, now));
    liveness.disconnected();
    liveness.connected(true, now);
    now += SETTINGS.probe;
    liveness.probed(now);
    assert!(liveness.heard(now));
    assert!(!liveness.reconnecting(&missing, now), "it is the same episode");
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_bounds_the_look_and_does_not_end_it() {
    let mut now = Instant::now();
    let mut liveness = online(LivenessSettings { probe: Duration::ZERO, ..SETTINGS }, now);
    liveness.subscribed(&space("a"), WALL);
    let at = |seconds: u64| WALL.saturating_add(Duration::from_secs(seconds));
    for number in 0..2 * MAX_SEEN {
        liveness.saw(&number.to_string(), at(number as u64 / 20));
    }
    now += SETTINGS.compare;
    let Some(Due::Compare(found, from)) = liveness.due(true, at(600), now) else { panic!("a comparison") };
    assert!(from > at(200), "it begins after what is forgotten");
    let seen = (2 * MAX_SEEN - 1).to_string();
    let messages = [(seen.as_str(), at(409))];
    assert_eq!(liveness.compared(&found, from, Some(messages.into_iter()), at(600)), Compared::Complete);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Hear,
    Refusal,
    Lose,
    Connect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u64..400).prop_map(Step::Wait),
        2 => Just(Step::Hear),
        1 => Just(Step::Refusal),
        1 => Just(Step::Lose),
        1 => Just(Step::Connect),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn a_session_is_deaf_only_if_nothing_was_heard_since_a_probe(steps in steps()) {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(SETTINGS, now);
        let (mut probes, mut online) = (0_u32, false);
        for step in steps {
            match step {
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Hear if online => {
                    liveness.heard(now);
                    probes = 0;
                }
                Step::Refusal if online => {
                    let _ = liveness.take_refusal();
                }
                Step::Lose if online => {
                    liveness.disconnected();
                    (probes, online) = (0, false);
                }
                Step::Connect if !online => {
                    liveness.connected(true, now);
                    online = true;
                }
                _ => {}
            }
            match liveness.due(false, WALL, now) {
                Some(Due::Probe) => {
                    prop_assert!(online);
                    liveness.probed(now);
                    probes += 1;
                    prop_assert!(probes <= TRIES);
                }
                Some(Due::Unanswered) => {
                    prop_assert_eq!(probes, TRIES);
                    probes = 0;
                }
                Some(Due::Compare(..)) => prop_assert!(false, "the history cannot be read"),
                None => {}
            }
            prop_assert!(!online || liveness.next_at().is_some(), "a session that is online is watched");
        }
    }
}
