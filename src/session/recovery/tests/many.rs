//! Many spaces at once, and the second look.

use super::super::together::{LEAST, MOST, TRIES};
use super::*;

/// A recovery of so many spaces that were heard before and lost, and are subscribed again.
fn broken_spaces(count: usize, settings: RecoverySettings, now: Instant) -> (Recovery<u32>, Vec<SpaceId>) {
    let mut recovery = Recovery::<u32>::new(settings);
    let spaces: Vec<SpaceId> = (0..count).map(|number| space(&format!("s{number:03}"))).collect();
    for space in &spaces {
        recovery.subscribed(space, at(1_000), now);
    }
    recovery.connection_lost(at(1_000), now);
    for space in &spaces {
        recovery.subscribed(space, at(2_000), now);
    }
    (recovery, spaces)
}

fn patient() -> RecoverySettings {
    settings(Duration::from_mins(1))
}

fn look(recovery: &mut Recovery<u32>, now: Instant) -> (Together, Vec<SpaceId>) {
    let together = recovery.next_together(now).expect("a look to take");
    let meant = recovery.together_ended(&together);
    (together, meant.into_iter().map(|(space, _)| space).collect())
}

fn close(recovery: &mut Recovery<u32>, space: &SpaceId, now: Instant) {
    recovery.settle(space, 0, Outcome::Closed);
    recovery.drained(0, at(2_001), now);
}

#[tokio::test(start_paused = true)]
async fn many_spaces_are_looked_at_together_and_few_one_by_one() {
    let now = Instant::now();
    let (mut recovery, _) = broken_spaces(LEAST - 1, patient(), now);
    assert_eq!(recovery.next_together(now), None);

    let (mut recovery, spaces) = broken_spaces(40, patient(), now);
    recovery.hold(&spaces[39], 7, 1, now);
    let (together, meant) = look(&mut recovery, now);
    assert_eq!((together.spaces.len(), together.from), (MOST, at(1_000)));
    assert_eq!(meant[0], spaces[39], "others wait for it");
    recovery.judge(Some(true));
    for space in &meant {
        let held = if *space == spaces[39] { vec![7] } else { Vec::new() };
        assert_eq!(recovery.seen_together(space, Changes::All { some: false }, now), After::Complete(held));
        close(&mut recovery, space, now);
        assert!(!recovery.marks().has_gap(space));
    }
    assert_eq!(recovery.status().spaces_left, 25);
    let looks: Vec<_> = std::iter::from_fn(|| recovery.next_together(now)).collect();
    assert_eq!(looks.iter().map(|look| look.spaces.len()).collect::<Vec<_>>(), [15, 10]);
    recovery.connection_lost(at(3_000), now);
    assert!(recovery.together_ended(&looks[0]).is_empty(), "a new connection begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_shows_nothing_of_what_is_known_to_be_there_is_not_believed() {
    let now = Instant::now();
    let (mut recovery, spaces) = broken_spaces(LEAST, patient(), now);
    let known = &spaces[0];
    // An event of this space is durable, and nothing has been closed since.
    recovery.marks_mut().closed(known, at(1_000));
    recovery.marks_mut().durable(known, at(1_500));
    recovery.connection_lost(at(1_600), now);
    for space in &spaces {
        recovery.subscribed(space, at(2_000), now);
    }
    let (_, meant) = look(&mut recovery, now);
    for space in &meant {
        let after = recovery.seen_together(space, Changes::All { some: false }, now);
        assert_eq!(after == After::More, space == known, "{space}");
    }
    let next = read(&mut recovery, now);
    assert_eq!((&next.space, next.from), (known, at(1_500)));
    assert_eq!(recovery.page(known, None, now), After::Complete(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn looks_that_are_refused_or_make_no_sense_are_not_taken_any_more() {
    let now = Instant::now();
    let (mut recovery, _) = broken_spaces(60, patient(), now);
    for changes in [Changes::Failed(Failure::Refused), Changes::Unclear] {
        let (_, meant) = look(&mut recovery, now);
        recovery.judge(Some(false));
        for space in &meant {
            assert_eq!(recovery.seen_together(space, changes, now), After::More);
        }
    }
    assert_eq!(recovery.next_together(now), None);
    assert!(recovery.next_read(now).is_some(), "each space is read by itself");
    recovery.new_connection(now);
    assert_eq!(recovery.next_together(now), None, "what never worked is not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_is_taken_again_later_and_in_the_end_each_space_is_read_by_itself() {
    let now = Instant::now();
    let (mut recovery, _) = broken_spaces(LEAST, patient(), now);
    recovery.judge(Some(true));
    let mut at = now;
    for _ in 0..TRIES {
        let (_, meant) = look(&mut recovery, at);
        assert_eq!(meant.len(), LEAST);
        recovery.judge(None);
        for space in &meant {
            assert_eq!(recovery.seen_together(space, Changes::Failed(Failure::Failing(None)), at), After::More);
        }
        assert_eq!((recovery.next_together(at), recovery.next_read(at)), (None, None), "not at once");
        at = recovery.next_at(true).expect("later");
    }
    assert_eq!(recovery.next_together(at), None);
    assert!(recovery.next_read(at).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_history_is_read_once_more_after_the_gap_was_closed() {
    let (now, second_look) = (Instant::now(), Duration::from_mins(1));
    let reach = Reach { overlap: Duration::from_millis(300), limit: Duration::from_hours(1) };
    let (mut recovery, spaces) = broken_spaces(1, RecoverySettings { reach, second_look, ..patient() }, now);
    let s1 = &spaces[0];
    read(&mut recovery, now);
    recovery.page(s1, None, now);
    close(&mut recovery, s1, now);
    assert_eq!((recovery.next_read(now), recovery.next_at(true)), (None, Some(now + second_look)));
    let later = now + second_look;
    let second = read(&mut recovery, later);
    assert_eq!((&second.space, second.from), (s1, at(1_700)));
    assert!(recovery.is_idle() && !recovery.holds(s1), "nothing waits for it");
    assert_eq!(recovery.page(s1, Some("more".to_owned()), later), After::More);
    read(&mut recovery, later);
    assert_eq!(recovery.page(s1, None, later), After::More, "there is nothing to settle");
    assert_eq!((recovery.next_read(later), recovery.next_at(true)), (None, None), "it is one look");
}

#[tokio::test(start_paused = true)]
async fn a_second_look_that_fails_or_comes_too_late_is_no_gap() {
    let (now, second_look) = (Instant::now(), Duration::from_mins(1));
    let begin = || {
        let (mut recovery, spaces) = broken_spaces(1, RecoverySettings { second_look, ..patient() }, now);
        read(&mut recovery, now);
        recovery.page(&spaces[0], None, now);
        close(&mut recovery, &spaces[0], now);
        (recovery, spaces[0].clone())
    };
    let later = now + second_look;
    let (mut recovery, s1) = begin();
    read(&mut recovery, later);
    assert_eq!(recovery.failed(&s1, Failure::Refused, later), After::More);
    assert_eq!((recovery.next_at(true), recovery.status().gaps.len()), (None, 0));

    // A new gap takes its place.
    let (mut recovery, s1) = begin();
    let second = recovery.next_read(later).expect("a page to read");
    recovery.connection_lost(at(9_000), later);
    assert!(!recovery.read_ended(&second));
    recovery.subscribed(&s1, at(9_500), later);
    let first = read(&mut recovery, later);
    assert_eq!(first.from, at(2_000), "from the watermark on");
    assert_eq!(recovery.page(&s1, None, later), After::Complete(Vec::new()));
}
