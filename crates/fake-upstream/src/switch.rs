//! [`Switch`]: how often something happens.

use std::collections::VecDeque;

/// A behaviour that is off, on for the next few occasions, or on until further notice.
#[derive(Debug, Clone)]
pub struct Switch<T> {
    next: VecDeque<(u32, T)>,
    rest: Option<T>,
}

impl<T> Default for Switch<T> {
    fn default() -> Self {
        Self { next: VecDeque::new(), rest: None }
    }
}

impl<T: Clone> Switch<T> {
    /// Applies `behaviour` to the next `times` occasions, after those already planned and before any standing behaviour.
    pub fn next(&mut self, times: u32, behaviour: T) -> &mut Self {
        if times > 0 {
            self.next.push_back((times, behaviour));
        }
        self
    }

    /// Applies `behaviour` to every occasion after those planned by [`Switch::next`].
    pub fn always(&mut self, behaviour: T) -> &mut Self {
        self.rest = Some(behaviour);
        self
    }

    /// Forgets every plan.
    pub fn off(&mut self) -> &mut Self {
        *self = Self::default();
        self
    }

    /// Whether the next occasion would be affected.
    pub fn is_on(&self) -> bool {
        self.peek().is_some()
    }

    pub(crate) fn peek(&self) -> Option<&T> {
        self.next.front().map(|(_, behaviour)| behaviour).or(self.rest.as_ref())
    }

    /// Counts one occasion and answers what should happen on it.
    pub(crate) fn take(&mut self) -> Option<T> {
        let Some((times, behaviour)) = self.next.front_mut() else {
            return self.rest.clone();
        };
        *times -= 1;
        if *times > 0 {
            return Some(behaviour.clone());
        }
        self.next.pop_front().map(|(_, behaviour)| behaviour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_occasions_come_before_the_standing_behaviour() {
        let mut switch = Switch::default();
        switch.next(2, "a").next(1, "b").always("c");
        let seen: Vec<_> = std::iter::repeat_with(|| switch.take()).take(5).flatten().collect();
        assert_eq!(seen, ["a", "a", "b", "c", "c"]);
        switch.off();
        assert_eq!(switch.take(), None);
    }
}
