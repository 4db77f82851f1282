//! Examples of `data`, by event type. All names and ids are invented.

use serde_json::{Value, json};

/// When all this happened.
pub(super) const TIME: &str = "2031-03-14T09:26:53.589Z";

const CREATED: &str = "2031-03-14T09:20:11.004Z";
const ACCOUNT: &str = "acc_5a0b1c2d3e4f506172839405";
const SPACE: &str = "64f0a1b2c3d4e5f601020304";
const MESSAGE: &str = "650a0b0c0d0e0f1011121314";
const FILE: &str = "0b7f3c7e-1d2e-4f30-8a41-5b6c7d8e9f00";
const EVENT: &str = "evt_0f3c5a7e9b1d2f4a6c8e0b1d3f5a7c9e";
const SESSION: &str = "ses_9c1f0e2d4b3a59687766554433221100";
const WEBHOOK: &str = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed";

pub(super) fn message_created() -> Value {
    let file = json!({"fileId": FILE, "name": "graph.png", "fileSize": 20480, "fileType": "image", "provider": "native",
        "providerFileType": "image/png"});
    let mut attachment = file.clone();
    attachment["url"] = format!("/files/{FILE}").into();
    let upstream = json!({"_id": MESSAGE, "category": "chat", "topicId": SPACE, "topicType": "group", "sender": upstream_sender(),
        "content": {"bodyText": "<p>it&#x27;s down again</p>", "data": [file.clone()]}, "created": TIME});
    let message = json!({"id": MESSAGE, "text": "it's down again", "html": "<p>it&#x27;s down again</p>", "sender": sender(),
        "attachments": [attachment], "replyTo": null, "createdAt": TIME, "modifiedAt": null});
    of_message("chat", &message, &upstream)
}

pub(super) fn message_updated() -> Value {
    let upstream = json!({"_id": MESSAGE, "category": "task", "topicId": SPACE, "topicType": "group", "sender": upstream_sender(),
        "content": {"bodyText": "Look into it", "description": "since nine", "status": "completed", "data": []},
        "created": CREATED, "modified": TIME});
    let message = json!({"id": MESSAGE, "text": "Look into it", "html": "Look into it", "description": "since nine",
        "sender": sender(), "attachments": [], "replyTo": null, "createdAt": CREATED, "modifiedAt": TIME});
    of_message("task", &message, &upstream)
}

pub(super) fn message_deleted() -> Value {
    let upstream = json!({"_id": MESSAGE, "category": "chat", "topicId": SPACE, "topicType": "group", "sender": upstream_sender(),
        "content": {"bodyText": "", "data": []}, "created": CREATED, "modified": TIME, "isDeleted": true});
    let message = json!({"id": MESSAGE, "text": "", "html": "", "sender": sender(), "attachments": [], "replyTo": null,
        "createdAt": CREATED, "modifiedAt": TIME});
    of_message("chat", &message, &upstream)
}

pub(super) fn message_other() -> Value {
    let upstream = json!({"_id": MESSAGE, "category": "meeting.recap", "topicId": SPACE, "created": TIME});
    let message = json!({"id": MESSAGE, "text": null, "html": null, "sender": null, "attachments": null, "replyTo": null,
        "createdAt": TIME, "modifiedAt": null});
    let mut data = of_message("meeting.recap", &message, &upstream);
    data["spaceType"] = Value::Null;
    data
}

pub(super) fn space_updated() -> Value {
    let upstream = json!({"_id": SPACE, "category": "topic.updated", "topicId": SPACE, "topicTitle": "Operations",
        "topicType": "group", "sender": upstream_sender(), "content": {"bodyText": "Operations"},
        "created": CREATED, "modified": TIME});
    let message = json!({"id": SPACE, "text": "Operations", "html": "Operations", "sender": sender(), "attachments": null,
        "replyTo": null, "createdAt": CREATED, "modifiedAt": TIME});
    of_message("topic.updated", &message, &upstream)
}

fn of_message(category: &str, message: &Value, upstream: &Value) -> Value {
    with(json!({"spaceId": SPACE, "spaceType": "group", "category": category, "own": false, "recovered": false,
        "message": message, "upstream": upstream}))
}

pub(super) fn presence_online() -> Value {
    of_activity("app.event.presence.party.online", &json!({"idle": false, "offline": false, "role": "member"}))
}

pub(super) fn presence_left() -> Value {
    of_activity("app.event.presence.party.leaves", &json!({"idle": false, "offline": true, "role": "member"}))
}

pub(super) fn presence_typing() -> Value {
    of_activity("party.typing", &json!({"mediaSession": {}}))
}

pub(super) fn presence_other() -> Value {
    of_activity("app.event.presence.request.parties", &json!({}))
}

pub(super) fn media_started() -> Value {
    of_activity("app.event.meeting.started", &json!({"startTime": TIME, "attendees": []}))
}

pub(super) fn media_ended() -> Value {
    of_activity("app.event.meeting.ended", &json!({"startTime": CREATED, "endTime": TIME, "attendees": []}))
}

pub(super) fn media_other() -> Value {
    of_activity("app.event.recording.started", &json!({"recordings": []}))
}

fn of_activity(category: &str, content: &Value) -> Value {
    let upstream = json!({"category": category, "topicId": SPACE, "sender": upstream_sender(), "content": content});
    with(json!({"spaceId": SPACE, "spaceType": null, "category": category, "sender": sender(), "upstream": upstream}))
}

pub(super) fn send_failed() -> Value {
    with(json!({"ref": "ref_9a0c6a1e5b7d4f3c8e2a1b0c9d8e7f60", "spaceId": SPACE, "category": "chat",
        "code": "not.authorized.by.topic.policy", "message": null}))
}

pub(super) fn session_connected() -> Value {
    with(json!({"sessionId": SESSION, "lostConnections": 0}))
}

pub(super) fn session_disconnected() -> Value {
    with(json!({"sessionId": SESSION, "lostConnections": 1, "cause": "connection_lost",
        "reason": "the server closed the connection"}))
}

pub(super) fn session_auth_failed() -> Value {
    with(json!({"sessionId": SESSION, "reason": "the server refused the connection"}))
}

pub(super) fn session_degraded() -> Value {
    with(json!({"sessionId": SESSION, "reason": "events_missing", "spaceId": SPACE, "since": CREATED}))
}

pub(super) fn session_gap() -> Value {
    with(json!({"sessionId": SESSION, "spaceId": SPACE, "from": CREATED, "to": TIME, "reason": "history_refused"}))
}

pub(super) fn webhook_disabled() -> Value {
    with(json!({"webhookId": WEBHOOK, "reason": "gone", "failingSince": null}))
}

pub(super) fn webhook_test() -> Value {
    with(json!({"webhookId": WEBHOOK}))
}

fn with(mut data: Value) -> Value {
    data["eventId"] = EVENT.into();
    data["account"] = ACCOUNT.into();
    data
}

fn sender() -> Value {
    json!({"id": "5a0b1c2d3e4f506172839406", "type": "user", "username": "bo@corp.example", "displayName": "Bo Lind"})
}

fn upstream_sender() -> Value {
    json!({"_id": "5a0b1c2d3e4f506172839406", "type": "user", "username": "bo@corp.example", "displayname": "Bo Lind"})
}
