//! Attachments of received messages: as Spaces describes them, with where the bridge gives the file.

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::files::is_file_id;

/// Where the bridge gives a file, as a path of its API. Addresses that Spaces sends along end after a while.
const ADDRESS: &str = "url";

/// The attachments with an address for each that names its file; as they came if there is none.
pub(super) fn addressed(attachments: &RawValue) -> Cow<'_, RawValue> {
    let rewritten = || -> Option<Box<RawValue>> {
        let mut entries: Vec<Value> = serde_json::from_str(attachments.get()).ok()?;
        let mut found = false;
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            found |= add_address(entry);
        }
        if found { to_raw_value(&entries).ok() } else { None }
    };
    rewritten().map_or(Cow::Borrowed(attachments), Cow::Owned)
}

fn add_address(entry: &mut Map<String, Value>) -> bool {
    let file = entry.get("fileId").and_then(Value::as_str).filter(|id| is_file_id(id));
    let Some(address) = file.map(|id| format!("/files/{id}")) else { return false };
    entry.insert(ADDRESS.to_owned(), address.into());
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_file_gets_its_address_and_the_rest_stays() {
        for (given, expected) in [
            (
                json!([{"fileId": "a-1", "name": "n", "path": "https://s/x"}]),
                json!([{"fileId": "a-1", "name": "n", "path": "https://s/x", "url": "/files/a-1"}]),
            ),
            (
                json!([{"fileId": "a"}, {"name": "n"}, 7, {"fileId": "b"}]),
                json!([{"fileId": "a", "url": "/files/a"}, {"name": "n"}, 7, {"fileId": "b", "url": "/files/b"}]),
            ),
            (json!([{"fileId": "../x"}]), json!([{"fileId": "../x"}])),
            (json!([{"fileId": 7}]), json!([{"fileId": 7}])),
            (json!([]), json!([])),
            (json!({"fileId": "a"}), json!({"fileId": "a"})),
            (json!(null), json!(null)),
        ] {
            let raw = to_raw_value(&given).expect("JSON");
            let found: Value = serde_json::from_str(addressed(&raw).get()).expect("JSON");
            assert_eq!(found, expected);
        }
    }
}
