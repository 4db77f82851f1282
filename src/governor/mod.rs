//! How much may be asked of Spaces: Spaces limits each of its users, whatever tokens and connections they come with.
//!
//! A [`Governor`] counts what one user's sessions emit and which REST calls are made for the user, and says who may go on and how long
//! the others wait. [`Governors`] finds the one of a token: its own until it is known whose token it is, that user's from then on.
//! `upstream` asks before each REST call, `session` before each emit. Nothing here waits or does I/O.

mod budget;
mod limits;
mod rest;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::domain::{AccountId, Credential};
use crate::metrics::Metrics;
pub use budget::Allowance;
use budget::Budget;
pub use limits::{LimitSettings, LimitSource, Limits, Quota, ReportedLimits};
use rest::RestBudget;
pub use rest::RestClass;

/// When the limits are read again: after a success (and up to a fifth more, so that not all do it at once), after a failure, and if
/// whoever set out to read them does not come back.
const READ_AGAIN: Duration = Duration::from_hours(1);
const READ_AGAIN_AFTER_FAILURE: Duration = Duration::from_mins(5);
const READER_IS_LOST: Duration = Duration::from_mins(1);

/// Governors beyond which those that serve no purpose any more are looked for.
const MANY: usize = 1_024;

const LOCK: &str = "no code panics while it holds this lock";

/// What is emitted, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmitClass {
    /// A message that someone waits for.
    Interactive,
    /// A message that may take its time.
    Bulk,
    /// A subscription, its end, or another event that keeps the session going.
    Subscription,
}

/// Counts and limits what is asked of Spaces for one user.
#[derive(Debug)]
pub struct Governor {
    emits: Mutex<Budget<3>>,
    rest: Mutex<RestBudget>,
    reading: Mutex<Reading>,
    /// Makes background calls take their turns.
    turn: Semaphore,
}

#[derive(Debug)]
struct Reading {
    limits: Arc<Limits>,
    next: Instant,
}

impl Governor {
    fn new(limits: Limits, now: Instant) -> Self {
        Self {
            emits: Mutex::new(Budget::new(limits.emits)),
            rest: Mutex::new(RestBudget::new(&limits)),
            reading: Mutex::new(Reading { limits: Arc::new(limits), next: now }),
            turn: Semaphore::new(1),
        }
    }

    /// Takes one emit, if the class may have one now.
    pub fn take_emit(&self, class: EmitClass, now: Instant) -> bool {
        self.emits().take(class as usize, now)
    }

    /// Gives back an emit that was taken and not made.
    pub fn give_back_emit(&self, class: EmitClass) {
        self.emits().give_back(class as usize);
    }

    /// How long until the class may emit.
    pub fn emit_wait(&self, class: EmitClass, now: Instant) -> Duration {
        self.emits().wait(class as usize, now)
    }

    /// How the limit on emits stands for a message that someone waits for.
    pub fn emit_allowance(&self, now: Instant) -> Allowance {
        self.emits().allowance(now)
    }

    /// Takes one REST call of `resource`, or tells how long until there may be one.
    pub fn take_call(&self, class: RestClass, resource: &str, now: Instant) -> Result<(), Duration> {
        self.rest().take(class, resource, now)
    }

    /// Takes no REST call for so long, because the upstream asked for it.
    pub fn pause_calls(&self, pause: Duration, now: Instant) {
        self.rest().pause(pause, now);
    }

    /// How the limit on REST calls stands.
    pub fn call_allowance(&self, now: Instant) -> Allowance {
        self.rest().allowance(now)
    }

    /// Waits until it is the caller's turn among the background calls.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.turn.acquire().await.expect("the semaphore is never closed")
    }

    /// The limits that hold.
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.reading().limits)
    }

    /// Largest event in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.reading().limits.payload_bytes
    }

    /// Whether the caller should read the limits now. One caller of all is told so.
    pub fn should_read(&self, now: Instant) -> bool {
        let mut reading = self.reading();
        let due = reading.next <= now;
        if due {
            reading.next = now + READER_IS_LOST;
        }
        due
    }

    /// When someone should read the limits.
    pub fn read_at(&self) -> Instant {
        self.reading().next
    }

    /// Notes that the limits could not be read; what held before goes on to hold.
    pub fn reading_failed(&self, retry_after: Option<Duration>, now: Instant) {
        self.reading().next = now + retry_after.unwrap_or_default().clamp(READ_AGAIN_AFTER_FAILURE, READ_AGAIN);
    }

    fn set(&self, limits: Limits, jitter: f64, now: Instant) {
        self.emits().set(limits.emits, now);
        self.rest().set(&limits, now);
        let next = now + READ_AGAIN + (READ_AGAIN / 5).mul_f64(jitter);
        *self.reading() = Reading { limits: Arc::new(limits), next };
    }

    /// Counts what was used before it was known that the user is the same.
    fn absorb(&self, other: &Self, now: Instant) {
        let (emits, calls) = (other.emits().used(now), other.rest().used(now));
        self.emits().add(emits, now);
        self.rest().add(calls, now);
    }

    fn is_unused(&self, now: Instant) -> bool {
        self.emits().used(now) == [0; 3] && self.rest().allowance(now).reset_after.is_zero()
    }

    fn emits(&self) -> MutexGuard<'_, Budget<3>> {
        self.emits.lock().expect(LOCK)
    }

    fn rest(&self) -> MutexGuard<'_, RestBudget> {
        self.rest.lock().expect(LOCK)
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().expect(LOCK)
    }
}

/// The governors of all users.
#[derive(Debug)]
pub struct Governors {
    settings: LimitSettings,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_credential: HashMap<[u8; 32], Arc<Governor>>,
    by_account: HashMap<AccountId, Arc<Governor>>,
    /// How many there may be before the next search for those that serve no purpose.
    many: usize,
}

impl Governors {
    /// No governors yet.
    pub fn new(settings: LimitSettings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics, known: Mutex::default() }
    }

    /// The metrics that waits and refusals are counted in.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Largest event in bytes for a user of whom nothing is known.
    pub fn payload_bytes(&self) -> usize {
        self.without_a_word().payload_bytes
    }

    /// The governor of a token: its user's, if the user is known.
    pub fn of(&self, credential: &Credential, now: Instant) -> Arc<Governor> {
        let key = key(credential);
        let mut known = self.known.lock().expect(LOCK);
        if let Some(governor) = known.by_credential.get(&key) {
            return Arc::clone(governor);
        }
        known.make_room(now);
        let governor = Arc::new(Governor::new(self.without_a_word(), now));
        known.by_credential.insert(key, Arc::clone(&governor));
        governor
    }

    /// The governor of `account`, whose token this is.
    pub fn of_account(&self, credential: &Credential, account: &AccountId, now: Instant) -> Arc<Governor> {
        let key = key(credential);
        let mut known = self.known.lock().expect(LOCK);
        let own = known.by_credential.get(&key).cloned();
        let governor = match (known.by_account.get(account).cloned(), own) {
            (Some(governor), own) => {
                if let Some(own) = own.filter(|own| !Arc::ptr_eq(own, &governor)) {
                    governor.absorb(&own, now);
                }
                governor
            }
            (None, Some(own)) => own,
            (None, None) => {
                known.make_room(now);
                Arc::new(Governor::new(self.without_a_word(), now))
            }
        };
        known.by_credential.insert(key, Arc::clone(&governor));
        known.by_account.insert(account.clone(), Arc::clone(&governor));
        governor
    }

    /// Lets hold what Spaces said of its limits. `jitter` is a random number from 0 to 1.
    pub fn set(&self, governor: &Governor, reported: ReportedLimits, jitter: f64, now: Instant) {
        governor.set(Limits::new(reported, self.settings), jitter, now);
    }

    fn without_a_word(&self) -> Limits {
        Limits::new(ReportedLimits::default(), self.settings)
    }
}

impl Known {
    /// Forgets the governors of those who have no session and used nothing lately. The search doubles its distance to what it left, so
    /// that it costs little for each that comes.
    fn make_room(&mut self, now: Instant) {
        if self.by_credential.len() < self.many.max(MANY) {
            return;
        }
        // Nobody outside can hold one that only these maps hold, nor get hold of it while they are locked.
        let mut held: HashMap<*const Governor, usize> = HashMap::new();
        for governor in self.by_credential.values().chain(self.by_account.values()) {
            *held.entry(Arc::as_ptr(governor)).or_default() += 1;
        }
        let is_needed =
            |governor: &Arc<Governor>| Arc::strong_count(governor) > held[&Arc::as_ptr(governor)] || !governor.is_unused(now);
        let needed: std::collections::HashSet<*const Governor> = self
            .by_credential
            .values()
            .chain(self.by_account.values())
            .filter(|governor| is_needed(governor))
            .map(Arc::as_ptr)
            .collect();
        self.by_credential.retain(|_, governor| needed.contains(&Arc::as_ptr(governor)));
        self.by_account.retain(|_, governor| needed.contains(&Arc::as_ptr(governor)));
        self.many = self.by_credential.len().saturating_mul(2);
    }
}

/// Names a token without holding it.
fn key(credential: &Credential) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(credential.kind.as_str());
    hash.update([0]);
    hash.update(credential.token.expose());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Secret, TokenKind};

    fn credential(token: &str) -> Credential {
        Credential { kind: TokenKind::Jwt, token: Secret::new(token) }
    }

    fn governors() -> Governors {
        Governors::new(LimitSettings::default(), Arc::new(Metrics::new()))
    }

    fn emits(governor: &Governor, now: Instant) -> usize {
        (0..1000).filter(|_| governor.take_emit(EmitClass::Interactive, now)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_of_one_user_share_its_limits_and_what_they_used_before() {
        let (governors, now) = (governors(), Instant::now());
        let account: AccountId = "acc_u1".parse().expect("an id");
        let first = governors.of(&credential("a"), now);
        assert!(first.take_emit(EmitClass::Interactive, now));
        let first = governors.of_account(&credential("a"), &account, now);
        let second = governors.of(&credential("b"), now);
        assert!(!Arc::ptr_eq(&first, &second), "whose token it is is not known yet");
        for _ in 0..10 {
            assert!(second.take_emit(EmitClass::Interactive, now));
        }
        let second = governors.of_account(&credential("b"), &account, now);
        assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &governors.of(&credential("b"), now)));
        assert_eq!(emits(&first, now), 200 - 11);
        let again = governors.of_account(&credential("b"), &account, now);
        assert_eq!(again.emit_allowance(now).remaining, 0, "nothing is counted twice, and nothing forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_all_sessions_reads_the_limits() {
        let (governors, now) = (governors(), Instant::now());
        let governor = governors.of(&credential("a"), now);
        assert!(governor.should_read(now));
        assert!(!governor.should_read(now));
        assert!(governor.should_read(now + READER_IS_LOST), "the first has not come back");
        governor.reading_failed(None, now);
        assert_eq!(governor.read_at(), now + READ_AGAIN_AFTER_FAILURE);
        governor.reading_failed(Some(Duration::MAX), now);
        assert_eq!(governor.read_at(), now + READ_AGAIN);
        let emits = Some(Quota { count: 7, per: Duration::from_mins(1) });
        governors.set(&governor, ReportedLimits { emits, ..ReportedLimits::default() }, 0.5, now);
        assert_eq!(governor.read_at(), now + READ_AGAIN + READ_AGAIN / 10);
        assert_eq!((governor.limits().source, governor.emit_allowance(now).limit), (LimitSource::Live, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_of_users_who_are_gone_is_bounded() {
        let (governors, now) = (governors(), Instant::now());
        let kept = governors.of(&credential("kept"), now);
        let busy = governors.of(&credential("busy"), now);
        busy.take_emit(EmitClass::Interactive, now);
        drop(busy);
        for number in 0..10 * MANY {
            let account = AccountId::of_user(&format!("u{number}")).expect("an account");
            drop(governors.of_account(&credential(&number.to_string()), &account, now));
        }
        assert!(governors.known.lock().expect(LOCK).by_credential.len() <= 2 * MANY);
        assert!(governors.known.lock().expect(LOCK).by_account.len() <= 2 * MANY);
        assert!(Arc::ptr_eq(&kept, &governors.of(&credential("kept"), now)));
        assert_eq!(governors.of(&credential("busy"), now).emit_allowance(now).remaining, 199);
    }
}
