//! The REST API and the accounts side.
//!
//! [`gate`] sees every call first: it is recorded, suffers what the script says, and counts against the rate limit. The
//! handlers then answer as documented, from the world.

mod accounts;
mod answer;
mod caller;
mod files;
mod gate;
mod listing;
mod messages;
mod spaces;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, patch, post, put};

use crate::socket;
use crate::state::Shared;

/// Every route of the fake upstream.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let spaces = Router::new()
        .route("/invite", post(spaces::create_space))
        .route("/invites/{space_id}/join", get(spaces::join_space))
        .route("/direct/{user_type}/{user_id}", get(spaces::get_direct_space))
        .route("/{space_id}", get(spaces::get_space))
        .route("/{space_id}/join", get(spaces::join_space))
        .route("/{space_id}/members", get(spaces::list_members))
        .route("/{space_id}/chats", post(messages::post_chat))
        .route("/{space_id}/ideas", post(messages::post_idea).get(messages::list_ideas))
        .route("/{space_id}/tasks", post(messages::post_task).get(messages::list_tasks))
        .route("/{space_id}/meetings", get(messages::list_meetings))
        .route("/{space_id}/messages/query", get(messages::query_messages));
    let rest = Router::new()
        .route("/api/users/me", get(users::get_me))
        .route("/api/users/me/spaces", get(users::list_spaces))
        .route("/api/users/me/spaces/{space_id}/markread", post(users::mark_read))
        .route("/api/users/me/messages", get(messages::list_my_messages))
        .route("/api/users/me/people/withdm", get(users::list_people_with_direct_space))
        .route("/api/users/meetingroom/{email}", get(users::get_meeting_room))
        .route("/api/users/{user_id}/colleagues", get(users::list_colleagues))
        // The old path of the same things.
        .nest("/api/topics", spaces.clone())
        .nest("/api/spaces", spaces)
        .route("/api/activitiesrecord/messages", get(messages::list_activity))
        .route("/api/messages/deletemessages", post(messages::delete_messages))
        .route("/api/messages/{message_id}", patch(messages::edit_message).post(messages::edit_message))
        .route("/api/ideas/{parent_id}/messages", get(messages::list_comments))
        .route("/api/tasks/{parent_id}/messages", get(messages::list_comments))
        .route("/api/files/getuploadurl", post(files::get_upload_url))
        .route("/api/files/getdownloadurl", post(files::get_download_url).get(files::get_download_url))
        .route("/storage/{file_key}", put(files::put_file).get(files::get_file))
        .route("/api/anonymous/auth", post(accounts::authenticate_anonymous))
        .route("/api/service-configurations", get(accounts::get_service_configurations))
        .route("/api/limit", get(accounts::get_limit))
        .route("/oauth2/access_token", post(accounts::get_access_token))
        .route("/oauth2/revoke_token", post(accounts::revoke_token))
        .fallback(answer::unknown_path)
        .layer(from_fn_with_state(Arc::clone(&shared), gate::gate));
    Router::new().route("/socket.io/", get(socket::upgrade)).merge(rest).with_state(shared)
}
