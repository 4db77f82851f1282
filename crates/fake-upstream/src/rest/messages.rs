//! Messages over REST: posting, changing, reading.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{OriginalUri, Path, State};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Failure, object};
use super::caller::{AnyCaller, Caller};
use super::listing::ListRequest;
use crate::clock;
use crate::script::Pagination;
use crate::socket::{Change, Origin, announce, announce_change};
use crate::state::{self, Shared};
use crate::world::{Direction, Draft, Message, UserKind};

/// The most ids that one deletion takes.
const MAX_DELETIONS: usize = 100;
/// The most spaces that `/api/users/me/messages` takes.
const MAX_SPACES: usize = 15;

/// `POST /api/spaces/{id}/chats`
pub(super) async fn post_chat(
    State(shared): State<Arc<Shared>>,
    AnyCaller(caller): AnyCaller,
    Path(space_id): Path<String>,
    body: Bytes,
) -> Answer {
    post_message(&shared, &caller, &space_id, "chat", object(&body)?)
}

/// `POST /api/spaces/{id}/ideas`
pub(super) async fn post_idea(
    State(shared): State<Arc<Shared>>,
    AnyCaller(caller): AnyCaller,
    Path(space_id): Path<String>,
    body: Bytes,
) -> Answer {
    post_message(&shared, &caller, &space_id, "idea", object(&body)?)
}

/// `POST /api/spaces/{id}/tasks`
pub(super) async fn post_task(
    State(shared): State<Arc<Shared>>,
    AnyCaller(caller): AnyCaller,
    Path(space_id): Path<String>,
    body: Bytes,
) -> Answer {
    let mut body = object(&body)?;
    if ["assignees", "dueDate", "status"].iter().any(|field| !body.contains_key(*field)) {
        return Err(Failure::invalid("assignees, dueDate and status are required"));
    }
    let top_level = [body.remove("assignees"), body.remove("dueDate"), body.remove("status")];
    let [assignees, due_date, status] = top_level.map(Option::unwrap_or_default);
    let is_time = due_date.as_str().is_some_and(|time| clock::parse(time).is_some());
    let is_status = status == json!(0) || status == json!(1);
    if !(assignees.is_array() && is_time && is_status) {
        return Err(Failure::invalid("assignees is a list of ids, dueDate a time, and status 0 or 1"));
    }
    if let Some(content) = body.get_mut("content").and_then(Value::as_object_mut) {
        let ids = assignees.as_array().into_iter().flatten();
        let people: Vec<Value> = ids.map(|id| if id.is_string() { json!({"_id": id}) } else { id.clone() }).collect();
        content.insert("assignees".to_owned(), people.into());
        content.insert("dueDate".to_owned(), due_date);
        let word = if status == json!(1) { "completed" } else { "pending" };
        content.entry("status").or_insert_with(|| word.into());
    }
    post_message(&shared, &caller, &space_id, "task", body)
}

fn post_message(
    shared: &Arc<Shared>,
    caller: &Caller,
    space_id: &str,
    category: &str,
    mut payload: Map<String, Value>,
) -> Answer {
    let state = &mut *shared.lock();
    let space = caller.writable_space(state, space_id)?;
    let is_guest = caller.user.kind == UserKind::Anonymous || !space.is_member(&caller.user.id);
    if is_guest && category != "chat" {
        return Err(Failure::GUESTS_BARRED);
    }
    let text = payload.get("content").and_then(|content| content.get("bodyText"));
    if !text.is_some_and(Value::is_string) {
        return Err(Failure::invalid("content.bodyText is required"));
    }
    payload.insert("category".to_owned(), category.into());
    let draft = Draft { space: space_id.to_owned(), sender: caller.user.id.clone(), payload, created_ms: clock::now_ms() };
    let origin = Origin { token: Arc::clone(&caller.token), socket: None };
    announce(shared, state, draft, origin).map(Json).ok_or(Failure::UNKNOWN_SPACE)
}

/// `POST` or `PATCH /api/messages/{id}`
pub(super) async fn edit_message(
    State(shared): State<Arc<Shared>>,
    AnyCaller(caller): AnyCaller,
    Path(message_id): Path<String>,
    body: Bytes,
) -> Answer {
    let body = object(&body)?;
    let content = body.get("content").and_then(Value::as_object).ok_or(Failure::invalid("content is required"))?;
    let state = &mut *shared.lock();
    let message = state.world.find_message(&message_id).filter(|message| !message.deleted).ok_or(Failure::UNKNOWN_MESSAGE)?;
    let space = caller.writable_space(state, &message.space)?;
    if message.sender != caller.user.id && space.role_of(&caller.user) == "guest" {
        return Err(Failure::POLICY);
    }
    if state.world.being_edited.contains(&message_id) {
        return Err(Failure::BEING_EDITED);
    }
    state.world.edit(&message_id, content, clock::now_ms()).ok_or(Failure::UNKNOWN_MESSAGE)?;
    announce_change(&shared, state, &message_id, Change::Edited, &caller.token).map(Json).ok_or(Failure::UNKNOWN_MESSAGE)
}

/// `POST /api/messages/deletemessages`
pub(super) async fn delete_messages(State(shared): State<Arc<Shared>>, caller: Caller, body: Bytes) -> Answer {
    let ids: Vec<String> = serde_json::from_slice(&body).map_err(|_| Failure::invalid("the body is not an array of ids"))?;
    if ids.len() > MAX_DELETIONS {
        return Err(Failure::invalid("at most 100 ids"));
    }
    let state = &mut *shared.lock();
    let (mut deleted, mut missing, mut barred, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        let Some(message) = state.world.find_message(&id).filter(|message| !message.deleted) else {
            missing.push(id);
            continue;
        };
        let space = state.world.find_space(&message.space);
        let is_admin = space.is_some_and(|space| space.role_of(&caller.user) == "admin");
        if message.sender != caller.user.id && !is_admin {
            barred.push(json!({"messageId": id, "reason": {"code": "not.authorized", "message": "neither sender nor admin"}}));
            continue;
        }
        if space.is_some_and(|space| space.archived) {
            let reason = json!({"code": "topic.invalid_acesss_to_archived_topic", "message": "the space is archived"});
            kept.push(json!({"messageId": id, "reason": reason}));
            continue;
        }
        state.world.delete(&id, clock::now_ms());
        announce_change(&shared, state, &id, Change::Deleted, &caller.token);
        deleted.push(id);
    }
    Ok(Json(
        json!({"deletedMessages": deleted, "notFoundMmessages": missing, "notDeletedMessages": kept, "noPermittedMessages": barred}),
    ))
}

/// `GET /api/spaces/{id}/messages/query`
pub(super) async fn query_messages(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(space_id): Path<String>,
    OriginalUri(uri): OriginalUri,
) -> Answer {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 30, Pagination::Cursor);
    caller.readable_space(state, &space_id)?;
    let direction = match list.get("direction").unwrap_or("after") {
        "before" => Direction::Before,
        "after" => Direction::After,
        _ => return Err(Failure::invalid("direction must be before or after")),
    };
    let reference = match list.get("refTime") {
        Some(time) => clock::parse(time).ok_or(Failure::invalid("refTime is not a time"))?,
        // Whatever was said up to the present millisecond is before now.
        None => clock::now_ms().saturating_add(i64::from(direction == Direction::Before)),
    };
    let search = list.get("searchstring").map(str::to_lowercase);
    let mut messages = state.world.history(&space_id, direction, reference);
    messages.retain(|message| {
        let parent = message.body.get("parentMsg").and_then(|parent| parent.get("category")).and_then(Value::as_str);
        list.get("category").is_none_or(|category| category.split(',').any(|word| word == message.category))
            && list.get("parentmsg_category").is_none_or(|wanted| wanted == parent.unwrap_or("none"))
            && (list.get("chatmsg_only") != Some("true") || message.category == "chat")
            && (list.get("file_only") != Some("true") || has_files(message))
            && search.as_ref().is_none_or(|search| message.text().to_lowercase().contains(search))
    });
    Ok(Json(page(&list, &messages)))
}

/// `GET /api/activitiesrecord/messages`: what was added, changed or deleted.
pub(super) async fn list_activity(State(shared): State<Arc<Shared>>, caller: Caller, OriginalUri(uri): OriginalUri) -> Answer {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 30, Pagination::Page);
    let space_id = list.get("spaceid").ok_or(Failure::invalid("spaceid is required"))?;
    caller.readable_space(state, space_id)?;
    let time = |name| list.get(name).and_then(clock::parse);
    let mut records = match (time("after"), time("before")) {
        (Some(after), None) => state.world.changes(&[space_id], Direction::After, after),
        (None, Some(before)) => state.world.changes(&[space_id], Direction::Before, before),
        (None, None) => state.world.changes(&[space_id], Direction::Before, i64::MAX),
        (Some(_), Some(_)) => return Err(Failure::invalid("after and before exclude each other")),
    };
    if let Some(parent) = list.get("parent") {
        records.retain(|record| is_comment_on(record, parent));
    }
    Ok(Json(page(&list, &records)))
}

/// `GET /api/users/me/messages`: changes over several spaces.
pub(super) async fn list_my_messages(State(shared): State<Arc<Shared>>, caller: Caller, OriginalUri(uri): OriginalUri) -> Answer {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 10, Pagination::Cursor);
    let space_ids: Vec<&str> = list.get("spacelist").unwrap_or_default().split(',').filter(|id| !id.is_empty()).collect();
    if space_ids.is_empty() || space_ids.len() > MAX_SPACES {
        return Err(Failure::invalid("spacelist takes 1 to 15 ids"));
    }
    for space_id in &space_ids {
        caller.readable_space(state, space_id)?;
    }
    let after = list.get("after").and_then(clock::parse).unwrap_or(0);
    let mut records = state.world.changes(&space_ids, Direction::After, after);
    if list.get("includedeleted") != Some("true") {
        records.retain(|record| !record.deleted);
    }
    Ok(Json(page(&list, &records)))
}

/// `GET /api/ideas/{id}/messages` and `GET /api/tasks/{id}/messages`
pub(super) async fn list_comments(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(parent_id): Path<String>,
    OriginalUri(uri): OriginalUri,
) -> Answer {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 30, Pagination::Cursor);
    let parent = state.world.find_message(&parent_id).ok_or(Failure::UNKNOWN_MESSAGE)?;
    let space = caller.readable_space(state, &parent.space)?;
    let mut messages = state.world.messages_in(&space.id);
    messages.retain(|message| is_comment_on(message, &parent_id));
    Ok(Json(page(&list, &messages)))
}

/// `GET /api/spaces/{id}/ideas`
pub(super) async fn list_ideas(state: State<Arc<Shared>>, caller: Caller, space: Path<String>, uri: OriginalUri) -> Answer {
    list_category(&state, &caller, &space, &uri, "idea")
}

/// `GET /api/spaces/{id}/tasks`
pub(super) async fn list_tasks(state: State<Arc<Shared>>, caller: Caller, space: Path<String>, uri: OriginalUri) -> Answer {
    list_category(&state, &caller, &space, &uri, "task")
}

/// `GET /api/spaces/{id}/meetings`
pub(super) async fn list_meetings(state: State<Arc<Shared>>, caller: Caller, space: Path<String>, uri: OriginalUri) -> Answer {
    list_category(&state, &caller, &space, &uri, "meeting")
}

fn list_category(shared: &Shared, caller: &Caller, space_id: &str, uri: &http::Uri, category: &str) -> Answer {
    let state: &mut state::State = &mut shared.lock();
    let list = ListRequest::new(state, &caller.token, uri, 30, Pagination::Page);
    caller.readable_space(state, space_id)?;
    let mut messages = state.world.messages_in(space_id);
    messages.retain(|message| message.category == category);
    Ok(Json(page(&list, &messages)))
}

fn page(list: &ListRequest, messages: &[&Message]) -> Value {
    list.answer(messages, |message| &message.id, |message| message.to_json())
}

fn is_comment_on(message: &Message, parent_id: &str) -> bool {
    let parent = message.body.get("parentMsg").and_then(|parent| parent.get("_id"));
    parent.and_then(Value::as_str) == Some(parent_id)
}

fn has_files(message: &Message) -> bool {
    let files = message.body.get("content").and_then(|content| content.get("data"));
    files.and_then(Value::as_array).is_some_and(|files| !files.is_empty())
}
