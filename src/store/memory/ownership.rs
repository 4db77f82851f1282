//! Members and the sessions that they own.

use std::time::Duration;

use super::{MemberRow, State};
use crate::domain::{SessionId, Timestamp};
use crate::store::{DocKind, Fence, Heartbeat, Incarnation, Member, Owner, Ownership, Wanted};

impl State {
    pub(super) fn join(&mut self, address: &str, ttl: Duration, now: Timestamp) -> Member {
        let before: Vec<_> = self.members.keys().copied().collect();
        for incarnation in before {
            self.leave(incarnation, now);
        }
        self.last_incarnation += 1;
        let incarnation = Incarnation(self.last_incarnation);
        let valid_until = now.saturating_add(ttl);
        self.members.insert(incarnation, MemberRow { address: address.to_owned(), ttl, valid_until });
        Member { incarnation, valid_until }
    }

    pub(super) fn heartbeat(&mut self, incarnation: Incarnation, now: Timestamp) -> Heartbeat {
        match self.members.get_mut(&incarnation) {
            Some(member) => {
                member.valid_until = now.saturating_add(member.ttl);
                Heartbeat::Alive(member.valid_until)
            }
            None => Heartbeat::Gone,
        }
    }

    pub(super) fn leave(&mut self, incarnation: Incarnation, now: Timestamp) {
        if self.members.remove(&incarnation).is_none() {
            return;
        }
        for session in self.sessions.values_mut() {
            if session.owner == Some(incarnation) {
                session.owner = None;
            }
        }
        self.lose_claims(now, |_, row| row.claimed_by == Some(incarnation));
    }

    pub(super) fn acquire(&mut self, incarnation: Incarnation, wanted: Wanted, now: Timestamp) -> Vec<Ownership> {
        if !self.members.contains_key(&incarnation) {
            return Vec::new();
        }
        match wanted {
            Wanted::Session(session) => match self.sessions.get(&session) {
                Some(row) if row.owner == Some(incarnation) => vec![Ownership { session, epoch: row.epoch }],
                _ if self.is_free(&session, now) => vec![self.take(incarnation, session)],
                _ => Vec::new(),
            },
            Wanted::Stored(most) => {
                let free: Vec<SessionId> = self
                    .documents
                    .values()
                    .filter(|document| document.kind == DocKind::Token && document.expires_at.is_none_or(|at| at > now))
                    .filter_map(|document| document.id.parse().ok())
                    .filter(|session| self.is_free(session, now))
                    .filter(|session| self.sessions.get(session).is_none_or(|row| row.owner != Some(incarnation)))
                    .take(most)
                    .collect();
                free.into_iter().map(|session| self.take(incarnation, session)).collect()
            }
        }
    }

    pub(super) fn release(&mut self, incarnation: Incarnation, ownerships: &[Ownership]) -> usize {
        let mut released = 0;
        for ownership in ownerships {
            if self.is_owner(incarnation, ownership) {
                self.sessions.entry(ownership.session.clone()).or_default().owner = None;
                released += 1;
            }
        }
        released
    }

    pub(super) fn owner(&self, session: &SessionId, now: Timestamp) -> Option<Owner> {
        let row = self.sessions.get(session)?;
        let incarnation = row.owner?;
        let member = self.members.get(&incarnation)?;
        Some(Owner { address: member.address.clone(), incarnation, epoch: row.epoch, live: member.valid_until > now })
    }

    pub(super) fn holds(&self, fence: &Fence) -> bool {
        self.is_owner(fence.incarnation, &fence.ownership)
    }

    fn is_owner(&self, incarnation: Incarnation, ownership: &Ownership) -> bool {
        self.sessions.get(&ownership.session).is_some_and(|row| row.owner == Some(incarnation) && row.epoch == ownership.epoch)
    }

    /// Whether no live member owns `session`.
    fn is_free(&self, session: &SessionId, now: Timestamp) -> bool {
        self.owner(session, now).is_none_or(|owner| !owner.live)
    }

    fn take(&mut self, incarnation: Incarnation, session: SessionId) -> Ownership {
        let row = self.sessions.entry(session.clone()).or_default();
        row.owner = Some(incarnation);
        row.epoch += 1;
        Ownership { session, epoch: row.epoch }
    }
}
