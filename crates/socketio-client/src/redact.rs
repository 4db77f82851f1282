//! Keeps secrets out of what a server's words are quoted in.

use serde_json::Value;
use serde_json::value::RawValue;

const MASK: &str = "***";
/// Shorter values are no secrets, and masking them would garble whatever holds them by chance.
const SHORTEST_SECRET: usize = 4;

/// The values to hide.
#[derive(Clone)]
pub(crate) struct Secrets<'a>(Vec<&'a str>);

impl<'a> Secrets<'a> {
    pub(crate) fn new(values: impl Iterator<Item = &'a str>) -> Self {
        let mut values: Vec<_> = values.filter(|value| value.len() >= SHORTEST_SECRET).collect();
        // A secret that contains another is masked whole.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// Returns plain text without secrets, percent-encoded ones included.
    pub(crate) fn mask_text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            let encoded = crate::codec::encode_query([("", *secret)]);
            text.replace(secret, MASK).replace(encoded.trim_start_matches('='), MASK)
        })
    }

    /// Returns JSON without secrets, however they are escaped; JSON without any stays as it was.
    pub(crate) fn mask_json(&self, json: &str) -> Box<RawValue> {
        let original = || RawValue::from_string(json.to_owned()).ok();
        let masked = match serde_json::from_str::<Value>(json) {
            Ok(mut value) => {
                if self.mask_value(&mut value) {
                    serde_json::value::to_raw_value(&value).ok()
                } else {
                    original()
                }
            }
            // Too deep to look into.
            Err(_) => None,
        };
        masked.unwrap_or_else(|| RawValue::NULL.to_owned())
    }

    /// Masks in place and tells whether there was anything to mask.
    fn mask_value(&self, value: &mut Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => {
                let text = number.to_string();
                let masked = self.mask_text(&text);
                let changed = masked != text;
                if changed {
                    *value = Value::from(masked);
                }
                changed
            }
            Value::String(text) => {
                let masked = self.mask_text(text);
                let changed = masked != *text;
                *text = masked;
                changed
            }
            Value::Array(items) => items.iter_mut().fold(false, |changed, item| self.mask_value(item) | changed),
            Value::Object(members) => {
                let mut changed = false;
                let mut masked = serde_json::Map::new();
                for (name, mut value) in std::mem::take(members) {
                    changed |= self.mask_value(&mut value);
                    let masked_name = self.mask_text(&name);
                    changed |= masked_name != name;
                    masked.insert(masked_name, value);
                }
                *members = masked;
                changed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_however_the_server_spells_them() {
        let secrets = Secrets::new(["sec/ret", "sec/ret-longer", "12345", "jwt"].into_iter());
        let cases = [
            (r#""bad token sec/ret""#, r#""bad token ***""#),
            (r#""bad token sec\/ret""#, r#""bad token ***""#),
            (r#""bad token \u0073ec\/ret-longer!""#, r#""bad token ***!""#),
            (r#""?token=sec%2Fret&x""#, r#""?token=***&x""#),
            (r#"{"sec/ret":{"a":["sec/ret",12345,401]}}"#, r#"{"***":{"a":["***","***",401]}}"#),
            (r#"{ "z": "jwt expired", "a": 401 }"#, r#"{ "z": "jwt expired", "a": 401 }"#),
        ];
        for (json, masked) in cases {
            assert_eq!(secrets.mask_json(json).get(), masked);
        }
        assert_eq!(secrets.mask_json(&"[".repeat(1000)).get(), "null");
    }
}
