//! Which calls are the same: senders repeat a call that they got no answer to, and say so by an id of theirs.

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::domain::{HookId, MessageRef};

/// The headers that name a call, by preference: whoever sends the first that is there sends the same again with a repeat.
const NAMES: [&str; 3] = ["idempotency-key", "webhook-id", "x-github-delivery"];

/// GitLab's name of an event. Events that follow from each other share it, so that the body has to tell them apart.
const GITLAB_EVENT: &str = "x-gitlab-event-uuid";

/// The reference of the message that a call becomes: the same for a repeat of the call, a new one for a call without a name. `attempt`
/// counts the messages of one call, should those before it have failed.
pub fn reference_of(hook: &HookId, headers: &HeaderMap, body: &[u8], attempt: u32) -> MessageRef {
    let attempt = attempt.to_be_bytes();
    let value = |name: &'static str| headers.get(name).map(http::HeaderValue::as_bytes).filter(|value| !value.is_empty());
    if let Some((name, value)) = NAMES.into_iter().find_map(|name| Some((name, value(name)?))) {
        return derived(hook, &[name.as_bytes(), value, &attempt]);
    }
    match value(GITLAB_EVENT) {
        Some(value) => derived(hook, &[GITLAB_EVENT.as_bytes(), value, body, &attempt]),
        None => MessageRef::random(),
    }
}

fn derived(hook: &HookId, identity: &[&[u8]]) -> MessageRef {
    let mut hash = Sha256::new();
    for part in [b"incoming hook".as_slice(), hook.as_str().as_bytes()].iter().chain(identity) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    MessageRef::from_digest(*digest.first_chunk().expect("SHA-256 gives 32 bytes"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn reference(hook: &str, header: Option<(&'static str, &'static str)>, body: &str) -> MessageRef {
        let headers = header.into_iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
        reference_of(&hook.parse().expect("an id"), &headers.collect(), body.as_bytes(), 1)
    }

    #[test]
    fn a_repeat_is_known_by_its_name() {
        for name in ["X-GitHub-Delivery", "webhook-id", "Idempotency-Key"] {
            let name: &'static str = name.to_ascii_lowercase().leak();
            let first = reference("hook_1", Some((name, "7")), "a");
            assert_eq!(first, reference("hook_1", Some((name, "7")), "a retry counter may differ"), "{name}");
            assert_ne!(first, reference("hook_1", Some((name, "8")), "a"), "{name}");
            assert_ne!(first, reference("hook_2", Some((name, "7")), "a"), "{name}");
        }
        let gitlab = |body| reference("hook_1", Some(("x-gitlab-event-uuid", "7")), body);
        assert_eq!(gitlab("a"), gitlab("a"));
        assert_ne!(gitlab("a"), gitlab("b"));
    }

    #[test]
    fn what_has_no_name_is_new_each_time() {
        assert_ne!(reference("hook_1", None, "a"), reference("hook_1", None, "a"));
        let empty = Some(("idempotency-key", ""));
        assert_ne!(reference("hook_1", empty, "a"), reference("hook_1", empty, "a"));
    }
}
