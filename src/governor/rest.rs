//! [`RestBudget`]: the REST calls of a user, all together and of each resource.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Allowance, Budget};
use super::limits::{Limits, Resources};

/// Resources whose calls are counted one by one; beyond that the idle ones are forgotten.
const MAX_RESOURCES: usize = 64;

/// Most that the upstream can make us wait by one answer.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Who makes a REST call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestClass {
    /// Someone who waits for the answer. Refused if nothing is left.
    Interactive,
    /// Nobody in particular. Waits until something is left beyond a reserve.
    Background,
}

#[derive(Debug)]
pub(super) struct RestBudget {
    all: Budget<2>,
    resources: Resources,
    by_resource: HashMap<String, Budget<2>>,
    paused_until: Option<Instant>,
}

impl RestBudget {
    pub(super) fn new(limits: &Limits) -> Self {
        let (all, resources) = (Budget::new(limits.rest_calls), limits.resources.clone());
        Self { all, resources, by_resource: HashMap::new(), paused_until: None }
    }

    pub(super) fn set(&mut self, limits: &Limits, now: Instant) {
        self.all.set(limits.rest_calls, now);
        self.resources = limits.resources.clone();
        self.by_resource.retain(|resource, budget| match limits.resources.quota(resource) {
            Some(quota) => {
                budget.set(quota, now);
                true
            }
            None => false,
        });
    }

    /// Takes one call of `resource`, or tells how long until there may be one.
    pub(super) fn take(&mut self, class: RestClass, resource: &str, now: Instant) -> Result<(), Duration> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err(until - now);
        }
        let rank = class as usize;
        if !self.all.take(rank, now) {
            return Err(self.all.wait(rank, now));
        }
        let Some(quota) = self.resources.quota(resource) else { return Ok(()) };
        if self.by_resource.len() >= MAX_RESOURCES {
            self.by_resource.retain(|_, budget| budget.used(now) != [0; 2]);
        }
        let budget = self.by_resource.entry(resource.to_owned()).or_insert_with(|| Budget::new(quota));
        if budget.take(rank, now) {
            return Ok(());
        }
        let wait = budget.wait(rank, now);
        self.all.give_back(rank);
        Err(wait)
    }

    /// Takes no call for so long: the upstream asked for it.
    pub(super) fn pause(&mut self, pause: Duration, now: Instant) {
        let until = now + pause.min(LONGEST_PAUSE);
        self.paused_until = self.paused_until.max(Some(until));
    }

    pub(super) fn allowance(&mut self, now: Instant) -> Allowance {
        let mut allowance = self.all.allowance(now);
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            allowance.remaining = 0;
            allowance.reset_after = allowance.reset_after.max(until - now);
        }
        allowance
    }

    pub(super) fn used(&mut self, now: Instant) -> [u32; 2] {
        self.all.used(now)
    }

    pub(super) fn add(&mut self, used: [u32; 2], now: Instant) {
        self.all.add(used, now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{LimitSettings, Quota, ReportedLimits};
    use super::*;

    const ME: &str = "GET /api/users/me";
    const OTHER: &str = "GET /api/users/me/spaces";

    fn budget(reported: ReportedLimits) -> RestBudget {
        RestBudget::new(&Limits::new(reported, LimitSettings::default()))
    }

    fn take(budget: &mut RestBudget, class: RestClass, resource: &str, now: Instant) -> usize {
        (0..1000).filter(|_| budget.take(class, resource, now).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_background_leaves_a_reserve_to_callers() {
        let reported = ReportedLimits { resources: Some(HashMap::new()), ..ReportedLimits::default() };
        let (mut budget, now) = (budget(reported), Instant::now());
        assert_eq!(take(&mut budget, RestClass::Background, ME, now), 480);
        assert_eq!(take(&mut budget, RestClass::Interactive, ME, now), 120);
        let wait = budget.take(RestClass::Interactive, ME, now).expect_err("nothing is left");
        assert_eq!(wait, Duration::from_millis(305_500));
        assert_eq!(budget.allowance(now).remaining, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resource_has_a_limit_of_its_own() {
        let (mut budget, now) = (budget(ReportedLimits::default()), Instant::now());
        assert_eq!(take(&mut budget, RestClass::Interactive, ME, now), 60);
        assert_eq!(take(&mut budget, RestClass::Interactive, OTHER, now), 60);
        assert_eq!(budget.allowance(now).remaining, 480, "what a resource refuses is not counted");
        let named = HashMap::from([(ME.to_owned(), Quota { count: 2, per: Duration::from_secs(10) })]);
        budget.set(&Limits::new(ReportedLimits { resources: Some(named), ..Default::default() }, LimitSettings::default()), now);
        assert_eq!(take(&mut budget, RestClass::Interactive, OTHER, now), 480);
        let later = now + Duration::from_mins(6);
        assert_eq!(take(&mut budget, RestClass::Interactive, ME, later), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_the_upstream_asks_for_holds_everyone() {
        let (mut budget, now) = (budget(ReportedLimits::default()), Instant::now());
        budget.pause(Duration::from_secs(30), now);
        budget.pause(Duration::from_secs(5), now);
        for class in [RestClass::Interactive, RestClass::Background] {
            assert_eq!(budget.take(class, ME, now + Duration::from_secs(10)), Err(Duration::from_secs(20)));
        }
        assert_eq!(budget.allowance(now).remaining, 0);
        assert_eq!(budget.take(RestClass::Interactive, ME, now + Duration::from_secs(30)), Ok(()));
        budget.pause(Duration::MAX, now);
        assert_eq!(budget.take(RestClass::Interactive, ME, now + LONGEST_PAUSE), Ok(()), "an odd answer stops nobody for good");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_of_resources_is_bounded() {
        let (mut budget, now) = (budget(ReportedLimits::default()), Instant::now());
        for number in 0..1_000_u32 {
            let _ = budget.take(RestClass::Interactive, &format!("GET /api/{number}"), now + Duration::from_mins(2) * number);
        }
        assert!(budget.by_resource.len() <= MAX_RESOURCES);
    }
}
