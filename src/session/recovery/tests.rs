mod many;

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::session::watermarks::Stored;

/// The longest wait between tries.
const LAST_RETRY: Duration = Duration::from_mins(1);

fn settings(hold: Duration) -> RecoverySettings {
    let reach = Reach { overlap: Duration::ZERO, limit: Duration::from_hours(1) };
    RecoverySettings { reach, hold, tell_after: Duration::from_secs(30), longest_wait: LAST_RETRY, second_look: Duration::ZERO }
}

fn space(id: &str) -> SpaceId {
    id.parse().expect("an id")
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A recovery of the space `s1` that was heard before and lost.
fn broken(now: Instant) -> Recovery<u32> {
    let mut recovery = Recovery::new(settings(Duration::from_mins(1)));
    assert_eq!(recovery.subscribed(&space("s1"), at(1_000), now), (Vec::new(), None));
    recovery.connection_lost(at(1_000), now);
    recovery
}

fn read(recovery: &mut Recovery<u32>, now: Instant) -> Read {
    let read = recovery.next_read(now).expect("a page to read");
    assert!(recovery.read_ended(&read));
    read
}

#[tokio::test(start_paused = true)]
async fn a_space_that_is_seen_first_begins_now_without_history() {
    let (mut recovery, now, s1) = (Recovery::<u32>::new(settings(Duration::from_mins(1))), Instant::now(), space("s1"));
    recovery.expect(&s1, now);
    assert!(recovery.holds(&s1), "until it is known whether it was heard before");
    assert!(recovery.hold(&s1, 1, 1, now).is_empty());
    assert_eq!(recovery.subscribed(&s1, at(1_000), now), (vec![1], None));
    assert!(!recovery.holds(&s1));
    assert_eq!(recovery.next_read(now), None);
    assert_eq!(recovery.status(), RecoveryStatus::default());
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_waits_for_the_history_and_a_second_confirmation_changes_nothing() {
    let now = Instant::now();
    let (mut recovery, s1) = (broken(now), space("s1"));
    assert!(recovery.hold(&s1, 1, 1, now).is_empty());
    recovery.subscribed(&s1, at(2_000), now);
    let first = read(&mut recovery, now);
    assert_eq!((first.source, first.from, first.next), (Source::Activity, at(1_000), None));
    recovery.subscribed(&s1, at(2_001), now);
    assert_eq!(recovery.page(&s1, Some("more".to_owned()), now), After::More);
    assert_eq!(read(&mut recovery, now).next.as_deref(), Some("more"));
    assert!(recovery.hold(&s1, 2, 1, now).is_empty());
    assert_eq!(recovery.page(&s1, None, now), After::Complete(vec![1, 2]));
    recovery.settle(&s1, 4, Outcome::Closed);
    assert!(recovery.drained(3, at(2_002), now).is_empty());
    assert!(recovery.marks().has_gap(&s1), "until all is durable");
    assert_eq!(recovery.drained(4, at(2_002), now).len(), 1);
    assert_eq!((recovery.marks().has_gap(&s1), recovery.marks().heard(&s1)), (false, Some(at(2_000))));
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_consequence() {
    let refused = [Failure::Refused, Failure::Refused];
    let other = [Failure::Failing(None), Failure::Failing(None)];
    let now = Instant::now();
    let s1 = space("s1");

    let mut recovery = broken(now);
    recovery.subscribed(&s1, at(2_000), now);
    read(&mut recovery, now);
    assert_eq!(recovery.failed(&s1, refused[0], now), After::More);
    assert_eq!(read(&mut recovery, now).source, Source::Messages, "the other history may be open");
    let gap = Gap { space: s1.clone(), since: at(1_000), until: Some(at(2_000)), reason: GapReason::HistoryRefused };
    assert_eq!(recovery.failed(&s1, refused[1], now), After::Gap(gap.clone(), Vec::new()));
    recovery.settle(&s1, 0, Outcome::GivenUp);
    recovery.drained(0, at(2_001), now);
    assert_eq!((recovery.status().state, recovery.status().gaps), (RecoveryState::Failed, vec![gap]));
    assert_eq!(recovery.marks().heard(&s1), Some(at(2_000)), "what is told of is not told again");

    let mut recovery = broken(now);
    recovery.subscribed(&s1, at(2_000), now);
    read(&mut recovery, now);
    recovery.failed(&s1, other[0], now);
    assert_eq!(read(&mut recovery, now).source, Source::Messages);
    recovery.failed(&s1, other[1], now);
    assert_eq!(recovery.next_read(now), None);
    assert_eq!(recovery.next_at(true), Some(now + FIRST_RETRY));
    assert!(recovery.untold_gaps(now + Duration::from_secs(29)).is_empty());
    let told = recovery.untold_gaps(now + Duration::from_secs(30));
    assert_eq!(told.iter().map(|gap| gap.reason).collect::<Vec<_>>(), [GapReason::HistoryUnavailable]);
    assert!(recovery.untold_gaps(now + Duration::from_mins(5)).is_empty(), "it is told once");
    let now = now + FIRST_RETRY;
    assert_eq!(read(&mut recovery, now).source, Source::Messages);
    assert_eq!(recovery.page(&s1, None, now), After::ChangesLeft(Vec::new()));
    assert_eq!(recovery.status().gaps.len(), 1, "it is open still");
    read(&mut recovery, now + FIRST_RETRY);
    assert_eq!(recovery.page(&s1, None, now), After::Complete(Vec::new()));
    recovery.settle(&s1, 0, Outcome::Closed);
    recovery.drained(0, at(2_001), now);
    assert_eq!(recovery.status().gaps, [], "it was closed after all");

    for (failure, wait) in [
        (Failure::Limited(Some(Duration::from_secs(7))), Duration::from_secs(7)),
        (Failure::Limited(None), FIRST_RETRY),
        (Failure::TokenRefused, FIRST_RETRY),
    ] {
        let mut recovery = broken(now);
        recovery.subscribed(&s1, at(2_000), now);
        read(&mut recovery, now);
        assert_eq!(recovery.failed(&s1, failure, now), After::More);
        assert_eq!(recovery.next_at(true), Some(now + wait), "{failure:?}");
        assert_eq!(read(&mut recovery, now + wait).source, Source::Activity, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_stays_open_for_changes_that_the_query_of_messages_does_not_tell() {
    let now = Instant::now();
    let s1 = space("s1");
    let messages_are_read = || {
        let mut recovery = broken(now);
        recovery.hold(&s1, 7, 1, now);
        recovery.subscribed(&s1, at(2_000), now);
        read(&mut recovery, now);
        recovery.failed(&s1, Failure::Failing(None), now);
        assert_eq!(read(&mut recovery, now).source, Source::Messages);
        assert_eq!(recovery.page(&s1, None, now), After::ChangesLeft(vec![7]), "messages do not wait for changes");
        assert!(!recovery.holds(&s1) && !recovery.is_idle() && recovery.marks().has_gap(&s1));
        (recovery, now + FIRST_RETRY)
    };

    let (mut recovery, later) = messages_are_read();
    assert_eq!(recovery.next_at(true), Some(later));
    let changes = read(&mut recovery, later);
    assert_eq!((changes.source, changes.from, changes.next), (Source::Activity, at(1_000), None), "all of it");
    recovery.failed(&s1, Failure::Failing(None), later);
    let again = later + 2 * FIRST_RETRY;
    assert_eq!(recovery.next_at(true), Some(again), "the messages are not read once more");
    assert_eq!(recovery.untold_gaps(now + Duration::from_secs(30)).len(), 1, "it is told that they are missing");
    assert_eq!(read(&mut recovery, again).source, Source::Activity);
    assert_eq!(recovery.page(&s1, None, again), After::Complete(Vec::new()));

    let (mut recovery, later) = messages_are_read();
    read(&mut recovery, later);
    assert_eq!(recovery.failed(&s1, Failure::Refused, later), After::Complete(Vec::new()), "nothing else tells of them");
    recovery.settle(&s1, 0, Outcome::Closed);
    recovery.drained(0, at(2_001), later);
    recovery.connection_lost(at(3_000), later);
    recovery.subscribed(&s1, at(3_500), later);
    assert_eq!(read(&mut recovery, later).source, Source::Messages);
    assert_eq!(recovery.page(&s1, None, later), After::Complete(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn the_history_that_works_is_asked_first_and_a_list_that_goes_round_is_left() {
    let now = Instant::now();
    let (mut recovery, s1, s2) = (broken(now), space("s1"), space("s2"));
    recovery.marks_mut().start(&s2, at(1_000), false);
    recovery.subscribed(&s1, at(2_000), now);
    read(&mut recovery, now);
    recovery.failed(&s1, Failure::Refused, now);
    read(&mut recovery, now);
    assert_eq!(recovery.page(&s1, None, now), After::Complete(Vec::new()));
    recovery.subscribed(&s2, at(2_000), now);
    assert_eq!(read(&mut recovery, now).source, Source::Messages);
    recovery.page(&s2, Some("x".to_owned()), now);
    read(&mut recovery, now);
    recovery.page(&s2, Some("x".to_owned()), now);
    let next = read(&mut recovery, now);
    assert_eq!((next.source, next.next), (Source::Activity, None));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_for_ever_or_without_bound() {
    let now = Instant::now();
    let (mut recovery, s1) = (broken(now), space("s1"));
    for number in 0..HELD_PER_SPACE {
        assert!(recovery.hold(&s1, u32::try_from(number).expect("small"), 1, now).is_empty());
    }
    assert_eq!(recovery.hold(&s1, 9_999, 1, now).len(), HELD_PER_SPACE + 1);
    assert!(!recovery.holds(&s1) && recovery.marks().has_gap(&s1));

    let mut recovery = broken(now);
    recovery.hold(&s1, 1, 1, now + Duration::from_secs(5));
    assert!(recovery.release_overdue(now + Duration::from_secs(64)).is_empty());
    assert_eq!(recovery.next_at(false), Some(now + Duration::from_secs(65)));
    assert_eq!(recovery.release_overdue(now + Duration::from_secs(65)), [1]);
    assert_eq!(recovery.hold(&s1, 2, 1, now), [2]);
}

#[tokio::test(start_paused = true)]
async fn few_are_read_at_a_time_and_first_those_that_others_wait_for() {
    let now = Instant::now();
    let mut recovery = Recovery::<u32>::new(settings(Duration::from_mins(1)));
    let spaces: Vec<SpaceId> = ["a", "b", "c", "d"].map(space).into();
    for space in &spaces {
        recovery.subscribed(space, at(1_000), now);
    }
    recovery.connection_lost(at(1_000), now);
    recovery.hold(&spaces[3], 1, 1, now);
    for space in &spaces {
        recovery.subscribed(space, at(2_000), now);
    }
    let reads: Vec<Read> = std::iter::from_fn(|| recovery.next_read(now)).collect();
    assert_eq!(reads.iter().map(|read| read.space.as_str()).collect::<Vec<_>>(), ["d", "a"]);
    recovery.connection_lost(at(2_000), now);
    for read in &reads {
        assert!(!recovery.read_ended(read), "a new connection begins anew");
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_that_refuses_what_it_granted_before_is_a_gap_told_once() {
    let now = Instant::now();
    let (mut recovery, s1) = (broken(now), space("s1"));
    assert_eq!(recovery.refused(&s1).map(|gap| gap.reason), Some(GapReason::SpaceRefused));
    assert_eq!((recovery.refused(&s1), recovery.refused(&space("never"))), (None, None));
    recovery.subscribed(&s1, at(2_000), now);
    assert_eq!(read(&mut recovery, now).from, at(1_000), "it is read from where it was left");
    recovery.page(&s1, None, now);
    recovery.settle(&s1, 0, Outcome::Closed);
    recovery.drained(0, at(2_000), now);
    assert_eq!(recovery.status().state, RecoveryState::Idle);
}

/// What may happen to one space, in any order.
#[derive(Debug, Clone, Copy)]
enum Step {
    Post,
    Cut,
    Connect,
    Subscribe,
    /// A page of so many messages is read.
    Page(usize),
    Fail(bool),
    Repeat,
    /// So many waiting events become durable.
    Append(usize),
    Store,
    Kill,
    /// What was held has been held for long enough.
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Post),
        2 => Just(Step::Cut),
        2 => Just(Step::Connect),
        3 => Just(Step::Subscribe),
        5 => (1_usize..4).prop_map(Step::Page),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => Just(Step::Repeat),
        4 => (1_usize..5).prop_map(Step::Append),
        3 => Just(Step::Store),
        2 => Just(Step::Kill),
        1 => Just(Step::Release),
    ]
}

/// A session of one space, its upstream and its store, in miniature. A message is the time of its creation.
struct World {
    now: Instant,
    clock: i64,
    history: Vec<i64>,
    first_seen: Option<i64>,
    recovery: Recovery<i64>,
    connected: bool,
    subscribed: bool,
    reading: Option<Read>,
    inbox: VecDeque<i64>,
    pushed: u64,
    drained: u64,
    log: Vec<i64>,
    stored: Option<(Timestamp, Timestamp)>,
    /// Whether something went on before the history that it waited for, so that the order is lost.
    released: bool,
}

impl World {
    fn new(now: Instant) -> Self {
        Self {
            now,
            clock: 1_000,
            history: Vec::new(),
            first_seen: None,
            recovery: Recovery::new(settings(Duration::from_hours(1))),
            connected: false,
            subscribed: false,
            reading: None,
            inbox: VecDeque::new(),
            pushed: 0,
            drained: 0,
            log: Vec::new(),
            stored: None,
            released: false,
        }
    }

    fn push(&mut self, messages: impl IntoIterator<Item = i64>) {
        for message in messages {
            self.inbox.push_back(message);
            self.pushed += 1;
        }
    }

    fn receive(&mut self, message: i64) {
        let s1 = space("s1");
        if self.recovery.holds(&s1) {
            let released = self.recovery.hold(&s1, message, 1, self.now);
            self.push(released);
        } else {
            self.push([message]);
        }
    }

    fn read(&mut self) {
        if self.connected && self.reading.is_none() {
            self.reading = self.recovery.next_read(self.now);
        }
    }

    fn end(&mut self) {
        self.recovery.drained(self.drained, at(self.clock), self.now);
    }

    fn page(&mut self, size: usize) {
        self.read();
        let Some(read) = self.reading.take() else { return };
        if !self.recovery.read_ended(&read) {
            return;
        }
        let all: Vec<i64> = self.history.iter().copied().filter(|time| *time >= read.from.as_millis()).collect();
        let offset: usize = read.next.as_deref().map_or(0, |next| next.parse().expect("a number"));
        let page: Vec<i64> = all.iter().copied().skip(offset).take(size).collect();
        let next = offset + page.len();
        for message in page {
            let held = self.recovery.take_held(&space("s1"), |held| *held == message);
            self.push([held.unwrap_or(message)]);
        }
        let next = (next < all.len()).then(|| next.to_string());
        match self.recovery.page(&space("s1"), next, self.now) {
            After::More => {}
            After::ChangesLeft(held) => {
                self.push(held);
                self.now += LAST_RETRY;
            }
            After::Complete(held) => {
                self.push(held);
                self.recovery.settle(&space("s1"), self.pushed, Outcome::Closed);
                self.end();
            }
            After::Gap(..) => panic!("the history is open"),
        }
    }

    fn fail(&mut self, limited: bool) {
        self.read();
        let Some(read) = self.reading.take() else { return };
        if self.recovery.read_ended(&read) {
            let failure = if limited { Failure::Limited(None) } else { Failure::Failing(None) };
            assert_eq!(self.recovery.failed(&space("s1"), failure, self.now), After::More);
            self.now += LAST_RETRY;
        }
    }

    fn append(&mut self, count: usize) {
        for _ in 0..count {
            let Some(message) = self.inbox.pop_front() else { break };
            self.drained += 1;
            if !self.log.contains(&message) {
                self.log.push(message);
            }
            self.recovery.marks_mut().durable(&space("s1"), at(message));
        }
        self.end();
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.subscribed = false;
            self.recovery.connection_lost(at(self.clock), self.now);
        }
    }

    fn store(&mut self) {
        let account = "acc_1".parse().expect("an id");
        self.recovery.marks_mut().take_writes(&account, at(self.clock));
        self.stored = self.recovery.marks().snapshot(&space("s1"));
    }

    fn kill(&mut self) {
        // One that was never stored is nowhere; the session stores it at once.
        if self.first_seen.is_some() && self.stored.is_none() {
            return;
        }
        self.connected = false;
        self.subscribed = false;
        self.reading = None;
        self.inbox.clear();
        (self.pushed, self.drained) = (0, 0);
        self.recovery = Recovery::new(settings(Duration::from_hours(1)));
        let mut stored = Stored::default();
        stored.insert(space("s1"), self.stored);
        self.recovery.marks_mut().merge(stored, at(self.clock));
        self.recovery.expect_gaps(self.now);
    }

    fn subscribe(&mut self) {
        if !self.connected {
            return;
        }
        self.first_seen.get_or_insert(self.clock);
        self.subscribed = true;
        let (released, gap) = self.recovery.subscribed(&space("s1"), at(self.clock), self.now);
        assert_eq!(gap, None);
        self.push(released);
    }

    fn step(&mut self, step: Step) {
        self.clock += 1;
        match step {
            Step::Post => {
                self.history.push(self.clock);
                if self.subscribed {
                    self.receive(self.clock);
                }
            }
            Step::Repeat => {
                if self.subscribed
                    && let Some(last) = self.history.last().copied().filter(|last| Some(*last) >= self.first_seen)
                {
                    self.receive(last);
                }
            }
            Step::Cut => self.cut(),
            Step::Connect => self.connected = true,
            Step::Subscribe => self.subscribe(),
            Step::Page(size) => self.page(size),
            Step::Fail(limited) => self.fail(limited),
            Step::Append(count) => self.append(count),
            Step::Store => self.store(),
            Step::Kill => self.kill(),
            Step::Release => {
                self.now += Duration::from_hours(1);
                let released = self.recovery.release_overdue(self.now);
                self.released |= !released.is_empty();
                self.push(released);
            }
        }
    }

    /// Connects once more and lets everything come to its end.
    fn settle(&mut self) {
        self.step(Step::Cut);
        self.step(Step::Connect);
        self.step(Step::Subscribe);
        for _ in 0..20 {
            self.now += LAST_RETRY;
            self.step(Step::Page(50));
        }
        self.append(usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_is_cut_repeated_or_killed_each_message_is_in_the_log_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(Instant::now());
        for step in steps {
            world.step(step);
        }
        world.settle();
        let first_seen = world.first_seen.expect("it was subscribed in the end");
        let expected: Vec<i64> = world.history.iter().copied().filter(|time| *time > first_seen).collect();
        let mut found: Vec<i64> = world.log.iter().copied().filter(|time| *time > first_seen).collect();
        if world.released {
            found.sort_unstable();
        }
        prop_assert_eq!(&found, &expected);
        let once: BTreeSet<i64> = world.log.iter().copied().collect();
        prop_assert_eq!(once.len(), world.log.len());
        prop_assert_eq!(world.recovery.status().spaces_left, 0);
        prop_assert_eq!(world.recovery.marks().has_gap(&space("s1")), false);
    }
}
