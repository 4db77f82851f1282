//! The body of a delivery in the format that its webhook wants, made from the body that the log keeps.
//!
//! The log's body is the envelope of Standard Webhooks. The other formats are cut out of it and put together anew from pieces of
//! text, never by reading and writing values, so that what the upstream sent stays as it was, byte for byte, and every attempt
//! sends the same bytes.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::retry::NextStep;
use crate::domain::{AccountId, DeadReason, EventId, Format};
use crate::store::{Hold, Verdict};

/// The longest wait that a receiver of `CloudEvents` can ask for with a 429: ten years, in place of the day that others have.
pub(super) const MAX_WAITED_OUT: std::time::Duration = std::time::Duration::from_hours(10 * 365 * 24);

/// A body of the log that is not the envelope it should be.
#[derive(Debug, thiserror::Error)]
#[error("the stored body is no envelope")]
pub(super) struct NoEnvelope(#[from] serde_json::Error);

/// The media type of bodies in `format`.
pub(super) fn content_type(format: Format) -> HeaderValue {
    HeaderValue::from_static(match format {
        Format::Standard | Format::Raw => "application/json",
        Format::CloudEvents => "application/cloudevents+json",
    })
}

/// The stored body `stored` of the event `id` in `format`.
pub(super) fn body(format: Format, id: &EventId, account: &AccountId, stored: &Bytes) -> Result<Bytes, NoEnvelope> {
    match format {
        Format::Standard => Ok(stored.clone()),
        Format::CloudEvents => cloud_event(id, account, stored),
        Format::Raw => upstream_object(stored),
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    event_type: &'a RawValue,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpaceOfData<'a> {
    #[serde(borrow, default)]
    space_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EnvelopeOfObject<'a> {
    #[serde(borrow)]
    data: ObjectOfData<'a>,
}

#[derive(Deserialize)]
struct ObjectOfData<'a> {
    #[serde(borrow, default)]
    upstream: Option<&'a RawValue>,
}

/// `CloudEvents` 1.0, structured mode, JSON format.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a EventId,
    source: String,
    #[serde(rename = "type")]
    event_type: &'a RawValue,
    time: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a RawValue>,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

fn cloud_event(id: &EventId, account: &AccountId, stored: &[u8]) -> Result<Bytes, NoEnvelope> {
    let envelope: Envelope<'_> = serde_json::from_slice(stored)?;
    let space: SpaceOfData<'_> = serde_json::from_str(envelope.data.get())?;
    let event = CloudEvent {
        specversion: "1.0",
        id,
        source: format!("urn:spaces-bridge:account:{account}"),
        event_type: envelope.event_type,
        time: envelope.timestamp,
        subject: space.space_id,
        datacontenttype: "application/json",
        data: envelope.data,
    };
    Ok(serde_json::to_vec(&event)?.into())
}

/// The object as the upstream sent it; an event of the bridge's own, which has none, goes as it is.
fn upstream_object(stored: &Bytes) -> Result<Bytes, NoEnvelope> {
    let envelope: EnvelopeOfObject<'_> = serde_json::from_slice(stored)?;
    Ok(match envelope.data.upstream {
        Some(object) => stored.slice_ref(object.get().as_bytes()),
        None => stored.clone(),
    })
}

/// Where the HTTP rules of `CloudEvents` are stricter than those of Standard Webhooks: 415 is final, and the `Retry-After` of a 429
/// is waited out, however long it is.
pub(super) fn stricter(format: Format, step: NextStep, status: StatusCode, retry_after: Option<std::time::Duration>) -> NextStep {
    match (format, status) {
        (Format::CloudEvents, StatusCode::UNSUPPORTED_MEDIA_TYPE) => {
            NextStep { verdict: Verdict::Dead(DeadReason::FormatRefused), ..step }
        }
        (Format::CloudEvents, StatusCode::TOO_MANY_REQUESTS) => {
            let asked = retry_after.unwrap_or_default().min(MAX_WAITED_OUT);
            let verdict = match step.verdict {
                Verdict::Retry(delay) => Verdict::Retry(delay.max(asked)),
                verdict @ (Verdict::Delivered | Verdict::Dead(_)) => verdict,
            };
            NextStep { verdict, hold: step.hold.map(|hold| Hold { time: hold.time.max(asked), ..hold }) }
        }
        _ => step,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::retry::{Answer, next_step};
    use super::*;
    use crate::domain::RetryPolicy;

    const YEAR: u64 = 365 * 86_400;

    /// With what serde would write otherwise: spaces, an escape, a large number, a repeated member.
    const OBJECT: &str = r#"{ "_id": "m1", "n": 1.0e2, "u": "\u00fc", "big": 123456789012345678901234567890, "x": 1, "x": 2 }"#;

    fn stored() -> Bytes {
        let head = r#"{"type":"message.created","timestamp":"2031-03-14T09:26:53.589Z","data":{"eventId":"evt_1","account":"acc_1","spaceId":"s1","category":"chat","upstream":"#;
        format!("{head}{OBJECT}}}}}").into()
    }

    fn body_in(format: Format, stored: &Bytes) -> String {
        let (id, account) = ("evt_1".parse().expect("an id"), "acc_1".parse().expect("an id"));
        let body = body(format, &id, &account, stored).expect("an envelope");
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }

    #[test]
    fn each_format_has_its_bytes() {
        let stored = stored();
        assert_eq!(body_in(Format::Standard, &stored).as_bytes(), stored);
        assert_eq!(body_in(Format::Raw, &stored), OBJECT);
        let head = r#"{"specversion":"1.0","id":"evt_1","source":"urn:spaces-bridge:account:acc_1","type":"message.created","time":"2031-03-14T09:26:53.589Z","subject":"s1","datacontenttype":"application/json","data":{"eventId":"evt_1","account":"acc_1","spaceId":"s1","category":"chat","upstream":"#;
        assert_eq!(body_in(Format::CloudEvents, &stored), format!("{head}{OBJECT}}}}}"));
    }

    #[test]
    fn an_event_of_the_bridge_itself_has_no_space_and_no_object() {
        for space in ["", r#","spaceId":null"#] {
            let stored: Bytes = format!(
                r#"{{"type":"webhook.test","timestamp":"2031-03-14T09:26:53.589Z","data":{{"eventId":"evt_1"{space}}}}}"#
            )
            .into();
            assert_eq!(body_in(Format::Raw, &stored).as_bytes(), stored);
            let event: serde_json::Value = serde_json::from_str(&body_in(Format::CloudEvents, &stored)).expect("JSON");
            assert_eq!((event.get("subject"), &event["type"]), (None, &serde_json::json!("webhook.test")));
        }
    }

    #[test]
    fn what_is_no_envelope_is_no_body() {
        let (id, account) = ("evt_1".parse().expect("an id"), "acc_1".parse().expect("an id"));
        for stored in ["", "{}", "[]", r#"{"type":"a","timestamp":"b","data":7}"#, "{"] {
            for format in [Format::CloudEvents, Format::Raw] {
                assert!(body(format, &id, &account, &stored.into()).is_err(), "{stored}");
            }
        }
    }

    #[test]
    fn only_cloud_events_have_the_stricter_rules() {
        let step = |format, code: u16, attempt, asked: Option<u64>| {
            let status = StatusCode::from_u16(code).expect("a status");
            let asked = asked.map(Duration::from_secs);
            let step = next_step(&RetryPolicy::Standard, Answer::Status(status, asked), attempt, 0.0);
            stricter(format, step, status, asked)
        };
        let retry = |seconds| Verdict::Retry(Duration::from_secs(seconds));
        for (format, code, attempt, asked, verdict, hold) in [
            (Format::CloudEvents, 415, 1, None, Verdict::Dead(DeadReason::FormatRefused), None),
            (Format::Standard, 415, 1, None, retry(5), None),
            (Format::Raw, 415, 1, None, retry(5), None),
            (Format::CloudEvents, 429, 1, None, retry(5), Some(5)),
            (Format::CloudEvents, 429, 1, Some(60), retry(60), Some(60)),
            (Format::CloudEvents, 429, 2, Some(60), retry(300), Some(60)),
            (Format::CloudEvents, 429, 1, Some(YEAR), retry(YEAR), Some(YEAR)),
            (Format::CloudEvents, 429, 1, Some(u64::MAX), retry(10 * YEAR), Some(10 * YEAR)),
            (Format::CloudEvents, 429, 10, Some(YEAR), Verdict::Dead(DeadReason::Exhausted), Some(YEAR)),
            (Format::Standard, 429, 1, Some(YEAR), retry(86_400), Some(86_400)),
            (Format::CloudEvents, 503, 1, Some(YEAR), retry(86_400), None),
            (Format::CloudEvents, 204, 1, Some(YEAR), Verdict::Delivered, None),
            (Format::CloudEvents, 410, 1, None, Verdict::Dead(DeadReason::Gone), None),
        ] {
            let hold = hold.map(|seconds| Hold { time: Duration::from_secs(seconds), probe: false });
            let expected = NextStep { verdict, hold };
            assert_eq!(step(format, code, attempt, asked), expected, "{format:?} {code} {attempt} {asked:?}");
        }
    }
}
