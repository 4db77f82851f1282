//! Whatever Spaces sends as a message is an event or known to be none, and an event is JSON that tells the same each time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use spaces_bridge::domain::Timestamp;
use spaces_bridge::upstream::{Circumstances, MessageView, ReceivedMessage, normalise};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return };
    let _ = MessageView::read(raw);
    let Ok(message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get()) else { return };
    let account = "acc_u1".parse().expect("an id");
    let tell = || {
        let received_at = Timestamp::from_millis(0);
        normalise(&message, raw, Circumstances { account: &account, own: false, recovered: false, direct: false, received_at })
    };
    if let (Ok(one), Ok(two)) = (tell(), tell()) {
        assert_eq!(one.id, two.id);
    }
});
