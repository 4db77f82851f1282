//! `/api/spaces/…`, apart from messages.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{OriginalUri, Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Failure, object};
use super::caller::{AnyCaller, Caller};
use super::listing::ListRequest;
use crate::clock;
use crate::script::Pagination;
use crate::state::{self, Shared};
use crate::world::{Space, SpaceKind, User, UserKind, World};

/// A space as every answer shows it.
pub(super) fn space_json(world: &World, space: &Space) -> Value {
    let members: Vec<Value> =
        space.members.iter().filter_map(|id| world.users.get(id)).map(|user| member_json(space, user)).collect();
    json!({
        "_id": space.id, "cid": space.owner, "title": space.title, "description": space.description,
        "type": space.kind.as_str(), "status": u8::from(space.archived), "restrict": space.restrict, "members": members,
        "settings": {"confId": space.id}, "created": clock::iso(space.created_ms), "lastupdatetime": clock::iso(space.active_ms),
    })
}

fn member_json(space: &Space, user: &User) -> Value {
    json!({"member": user.id, "memberType": user.wire_type(), "role": space.role_of(user), "username": user.username,
        "displayname": user.displayname, "picture_url": user.picture_url, "phone_numbers": [],
        "joinTime": clock::iso(space.created_ms)})
}

/// `GET /api/spaces/{id}`
pub(super) async fn get_space(State(shared): State<Arc<Shared>>, caller: Caller, Path(space_id): Path<String>) -> Answer {
    let state = shared.lock();
    let space = caller.space(&state, &space_id)?;
    Ok(Json(space_json(&state.world, space)))
}

/// `GET /api/spaces/{id}/join` and `GET /api/spaces/invites/{id}/join`
pub(super) async fn join_space(State(shared): State<Arc<Shared>>, caller: Caller, Path(space_id): Path<String>) -> Answer {
    let state = &mut *shared.lock();
    let space = caller.space(state, &space_id)?;
    if !space.is_member(&caller.user.id) {
        state.world.change_space(&space_id, |space| {
            space.members.push(caller.user.id.clone());
        });
    }
    let space = caller.space(state, &space_id)?;
    Ok(Json(json!({"topic": space_json(&state.world, space), "role": space.role_of(&caller.user)})))
}

/// `GET /api/spaces/{id}/members`
pub(super) async fn list_members(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(space_id): Path<String>,
    OriginalUri(uri): OriginalUri,
) -> Answer {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 30, Pagination::Page);
    let space = caller.space(state, &space_id)?;
    let search = list.get("search").unwrap_or_default().to_lowercase();
    let members: Vec<&User> = space
        .members
        .iter()
        .filter_map(|id| state.world.users.get(id))
        .filter(|user| user.displayname.to_lowercase().contains(&search))
        .collect();
    Ok(Json(list.answer(&members, |user| &user.id, |user| member_json(space, user))))
}

/// `GET /api/spaces/direct/{userType}/{userId}`: finds the direct space or makes it.
pub(super) async fn get_direct_space(
    State(shared): State<Arc<Shared>>,
    AnyCaller(caller): AnyCaller,
    Path((user_type, user_id)): Path<(String, String)>,
) -> Answer {
    let state = &mut *shared.lock();
    let peer = state.world.users.get(&user_id).filter(|peer| peer.wire_type() == user_type).cloned();
    if !matches!(user_type.as_str(), "user" | "anonymous") {
        return Err(Failure::invalid("userType must be user or anonymous"));
    }
    let peer = peer.ok_or(Failure::UNKNOWN_USER)?;
    if peer.id == caller.user.id {
        return Err(Failure::invalid("a direct space needs two users"));
    }
    let guest_is_away = peer.kind == UserKind::Anonymous && !is_online_beside(state, &peer, &caller.user);
    if guest_is_away || !state.world.may_talk_directly(&caller.user, &peer) {
        return Err(Failure::NO_DIRECT_SPACE);
    }
    let space = state.world.direct_space(&caller.user, &peer);
    Ok(Json(json!({"data": [space_json(&state.world, &space)], "total": 1})))
}

/// A guest can be spoken to only while he is in a space that the caller shares.
fn is_online_beside(state: &state::State, guest: &User, caller: &User) -> bool {
    state.hub.of_user(&guest.id).filter_map(|id| state.hub.get(id)).any(|connection| {
        let mut spaces = connection.subscriptions.iter().filter_map(|space_id| state.world.spaces.get(space_id));
        spaces.any(|space| space.admits(&caller.id))
    })
}

/// `POST /api/spaces/invite`: makes a space.
pub(super) async fn create_space(State(shared): State<Arc<Shared>>, AnyCaller(caller): AnyCaller, body: Bytes) -> Answer {
    if caller.user.kind == UserKind::Anonymous {
        return Err(Failure::new(StatusCode::FORBIDDEN, "not.authorized", "guests cannot own a space"));
    }
    let body = object(&body)?;
    let topic = body.get("topic").ok_or(Failure::invalid("topic is required"))?;
    let title = topic.get("title").and_then(Value::as_str).ok_or(Failure::invalid("topic.title is required"))?;
    let world = &mut shared.lock().world;
    let invited = body.get("invitees").and_then(Value::as_array).into_iter().flatten();
    let invited = invited.filter_map(|invitee| invitee.get("invitee")?.as_str());
    let mut members = vec![caller.user.clone()];
    members
        .extend(invited.filter_map(|name| world.users.values().find(|user| user.id == name || user.username == name).cloned()));
    let members: Vec<&User> = members.iter().collect();
    let space = world.add_space(title, SpaceKind::Group, &members);
    if let Some(description) = topic.get("description").and_then(Value::as_str) {
        world.change_space(&space.id, |space| {
            description.clone_into(&mut space.description);
        });
    }
    Ok(Json(json!({"data": [{"topicId": space.id, "title": space.title}]})))
}
