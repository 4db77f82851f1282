//! `/api/users/…`

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use serde_json::{Value, json};

use super::answer::{Answer, Failure};
use super::caller::{AnyCaller, Caller};
use super::listing::ListRequest;
use super::spaces::space_json;
use crate::clock;
use crate::script::Pagination;
use crate::state::Shared;
use crate::world::{Space, SpaceKind, User, World};

/// `GET /api/users/me`
pub(super) async fn get_me(caller: Caller) -> Json<Value> {
    let user = &caller.user;
    Json(json!({
        "_id": user.id, "username": user.username, "displayname": user.displayname, "aType": user.wire_type(),
        "picture_url": user.picture_url, "picturefile": user.picture_url, "phone_numbers": [], "timezone": "Etc/UTC",
        "gender": "", "ndbid": user.id, "lastupdatetime": clock::iso(0), "permissions": [], "licenses": [],
    }))
}

/// `GET /api/users/me/spaces`
pub(super) async fn list_spaces(State(shared): State<Arc<Shared>>, caller: Caller, OriginalUri(uri): OriginalUri) -> Json<Value> {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 10, Pagination::Page);
    let kinds = list.get("topictype").unwrap_or("group");
    let search = list.get("search").map(str::to_lowercase);
    let after = list.get("after").and_then(clock::parse);
    let wanted = |space: &&Space| {
        let status = match list.get("topicstatus").unwrap_or("0") {
            "all" => true,
            status => (status == "1") == space.archived,
        };
        status
            && (kinds == "all" || kinds.split(',').any(|kind| kind == space.kind.as_str()))
            && search.as_ref().is_none_or(|search| space.title.to_lowercase().contains(search))
            && after.is_none_or(|after| space.active_ms > after)
    };
    let spaces: Vec<&Space> = state.world.spaces_of(&caller.user).into_iter().filter(wanted).collect();
    Json(list.answer(&spaces, |space| &space.id, |space| space_json(&state.world, space)))
}

/// `POST /api/users/me/spaces/{id}/markread`
pub(super) async fn mark_read(State(shared): State<Arc<Shared>>, caller: Caller, Path(space_id): Path<String>) -> Answer {
    let state = &mut *shared.lock();
    caller.space(state, &space_id)?;
    *state.world.read_marks.entry((caller.user.id.clone(), space_id)).or_default() += 1;
    Ok(Json(json!({})))
}

/// `GET /api/users/meetingroom/{email}`
pub(super) async fn get_meeting_room(State(shared): State<Arc<Shared>>, _: Caller, Path(email): Path<String>) -> Answer {
    let world = &mut shared.lock().world;
    let owner = world.users.values().find(|user| user.username == email).cloned().ok_or(Failure::UNKNOWN_USER)?;
    let room = world.spaces.values().find(|space| space.kind == SpaceKind::Personal && space.is_member(&owner.id)).cloned();
    let room = match room {
        Some(room) => room,
        None => world.add_space(&owner.displayname, SpaceKind::Personal, &[&owner]),
    };
    Ok(Json(json!({"data": space_json(world, &room)})))
}

/// `GET /api/users/{me or id}/colleagues?search=`
pub(super) async fn list_colleagues(
    State(shared): State<Arc<Shared>>,
    AnyCaller(caller): AnyCaller,
    Path(_): Path<String>,
    OriginalUri(uri): OriginalUri,
) -> Json<Value> {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 10, Pagination::Page);
    let search = list.get("search").unwrap_or_default().to_lowercase();
    let world = &state.world;
    let colleagues: Vec<&User> = world
        .users
        .values()
        .filter(|user| user.id != caller.user.id && world.may_talk_directly(&caller.user, user))
        .filter(|user| user.displayname.to_lowercase().contains(&search) || user.username.to_lowercase().contains(&search))
        .collect();
    Json(list.answer(&colleagues, |user| &user.id, |user| person_json(user)))
}

/// `GET /api/users/me/people/withdm`
pub(super) async fn list_people_with_direct_space(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
) -> Json<Value> {
    let state = &mut *shared.lock();
    let list = ListRequest::new(state, &caller.token, &uri, 10, Pagination::Page);
    let world = &state.world;
    let spaces = world.spaces_of(&caller.user).into_iter().filter(|space| space.kind == SpaceKind::Direct);
    let people: Vec<&User> = spaces.filter_map(|space| peer(world, space, &caller.user)).collect();
    Json(list.answer(&people, |user| &user.id, |user| person_json(user)))
}

fn peer<'a>(world: &'a World, space: &Space, user: &User) -> Option<&'a User> {
    let id = space.members.iter().find(|member| **member != user.id)?;
    world.users.get(id)
}

fn person_json(user: &User) -> Value {
    json!({"_id": user.id, "username": user.username, "displayname": user.displayname, "aType": user.wire_type(),
        "picture_url": user.picture_url})
}
