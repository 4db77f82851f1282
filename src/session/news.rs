//! What a session tells its account of its own connection, and how often: every change at first, and of a connection that comes and
//! goes all the time a summary each minute, so that it does not fill the log.

use std::time::Duration;

use tokio::time::Instant;

/// Changes that are told at once before the pace is slowed.
const BURST: u32 = 10;

/// How long it takes until one more may be told.
const PACE: Duration = Duration::from_mins(1);

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Whether the session is connected; if not, why.
    pub(super) connection: Result<(), String>,
    /// Connections lost since the last time something was told.
    pub(super) lost: u32,
}

/// The news of one session's connection.
#[derive(Debug)]
pub(super) struct News {
    connection: Option<Result<(), String>>,
    lost: u32,
    pending: bool,
    told_online: bool,
    allowance: u32,
    /// Since when the allowance has grown.
    counted_at: Instant,
}

impl News {
    pub(super) fn new(now: Instant) -> Self {
        Self { connection: None, lost: 0, pending: false, told_online: false, allowance: BURST, counted_at: now }
    }

    pub(super) fn connected(&mut self) {
        self.connection = Some(Ok(()));
        self.pending = true;
    }

    /// The connection is gone. What never was is not told of.
    pub(super) fn lost(&mut self, reason: &str) {
        if self.connection == Some(Ok(())) {
            self.connection = Some(Err(reason.to_owned()));
            self.lost = self.lost.saturating_add(1);
            self.pending = true;
        }
    }

    /// Whether there is something to tell, now or later.
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// When the next thing may be told, if there is one.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let earliest = if self.allowance > 0 { self.counted_at } else { self.counted_at + PACE };
        self.pending.then_some(earliest)
    }

    /// Takes what is to be told now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Told> {
        while self.allowance < BURST && now >= self.counted_at + PACE {
            self.allowance += 1;
            self.counted_at += PACE;
        }
        if self.allowance == BURST {
            self.counted_at = now;
        }
        if !self.pending || self.allowance == 0 {
            return None;
        }
        self.allowance -= 1;
        self.pending = false;
        let connection = self.connection.clone()?;
        self.told_online = connection.is_ok();
        Some(Told { connection, lost: std::mem::take(&mut self.lost) })
    }

    /// Takes the end of the session. `None` if the account does not think that it is connected.
    pub(super) fn take_end(&mut self) -> Option<u32> {
        self.pending = false;
        std::mem::take(&mut self.told_online).then(|| std::mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(connection: Result<(), &str>, lost: u32) -> Told {
        Told { connection: connection.map_err(str::to_owned), lost }
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_is_told_once() {
        let now = Instant::now();
        let mut news = News::new(now);
        news.lost("never connected");
        assert_eq!((news.is_pending(), news.take(now)), (false, None));
        news.connected();
        assert_eq!(news.take(now), Some(told(Ok(()), 0)));
        assert_eq!(news.take(now), None);
        news.lost("reset");
        assert_eq!(news.take(now), Some(told(Err("reset"), 1)));
        assert_eq!(news.take_end(), None, "that it is gone is known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_comes_and_goes_is_summed_up_each_minute() {
        let mut now = Instant::now();
        let mut news = News::new(now);
        let mut count = 0;
        let mut lost = 0;
        for _ in 0..600 {
            news.connected();
            count += news.take(now).map_or(0, |told| {
                lost += told.lost;
                1
            });
            news.lost("reset");
            count += news.take(now).map_or(0, |told| {
                lost += told.lost;
                1
            });
            now += Duration::from_secs(1);
        }
        assert!((BURST..=BURST + 10).contains(&count), "{count}");
        now = news.next_at().expect("the last loss is to be told").max(now);
        lost += news.take(now).expect("it may be told now").lost;
        assert_eq!(lost, 600, "none goes uncounted");
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_recovers() {
        let mut now = Instant::now();
        let mut news = News::new(now);
        for _ in 0..BURST {
            news.connected();
            assert!(news.take(now).is_some());
        }
        news.connected();
        assert_eq!(news.take(now), None);
        now = news.next_at().expect("a time");
        assert!(news.take(now).is_some());
        now += PACE * BURST;
        for _ in 0..BURST {
            news.connected();
            assert!(news.take(now).is_some());
        }
        assert_eq!(news.take_end(), Some(0));
    }
}
