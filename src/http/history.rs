//! What was said in a space: its history, and the comments on one of its posts or tasks.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MayRead};
use super::error::ApiError;
use super::extract::{ApiPath, ApiQuery};
use super::page::{Limit, Page, PageQuery};
use super::space_password::{SpacePassword, SpacePasswordHeader};
use super::upstream_list::{FilteredPlace, Gathering, Taken, check_search};
use crate::domain::{SpaceId, Timestamp};
use crate::upstream::{HistoryFilter, HistoryPage, InSpace, MessageView, upstream_category};

/// A message of a space, in the form that the events of messages have in their `data`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpaceMessage {
    /// The space.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    space_id: SpaceId,
    /// What it is: `chat`, `post`, `task`, or another word of Spaces.
    #[schema(required, example = "chat")]
    category: Option<String>,
    /// The message in one form, whatever its category.
    #[schema(value_type = MessageContent)]
    message: Box<RawValue>,
    /// The object as Spaces gave it.
    #[schema(value_type = serde_json::Value)]
    upstream: Box<RawValue>,
}

/// What a message says and who said it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the form that `upstream` writes, as the document shows it")]
pub(super) struct MessageContent {
    /// The message's id in Spaces; the same for every change of it.
    #[schema(required, example = "650a0b0c0d0e0f1011121314")]
    id: Option<String>,
    /// What it says, as plain text with its lines, lists and links; the title of a post or task.
    #[schema(required, example = "build 41 is green")]
    text: Option<String>,
    /// The same as Spaces keeps it.
    #[schema(required, example = "<p>build 41 is green</p>")]
    html: Option<String>,
    /// The body of a post or task, as Spaces keeps it.
    #[schema(nullable = false)]
    description: Option<String>,
    /// The same as plain text, if it says anything.
    #[schema(nullable = false)]
    description_text: Option<String>,
    /// Who said it.
    #[schema(required, value_type = Option<serde_json::Value>)]
    sender: Option<serde_json::Value>,
    /// The attachments as Spaces describes them; `null` if it says nothing of them.
    #[schema(required, value_type = Option<serde_json::Value>)]
    attachments: Option<serde_json::Value>,
    /// The message that it comments on.
    #[schema(required)]
    reply_to: Option<String>,
    /// When it was created.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// When it was last changed.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    modified_at: Option<Timestamp>,
}

impl SpaceMessage {
    /// The message as `space` shows it; `None` if it is no message, or of another space.
    pub(super) fn read(space: &SpaceId, upstream: Box<RawValue>) -> Option<(Self, Option<Timestamp>)> {
        let MessageView { space: named, category, created_at, message } = MessageView::read(&upstream)?;
        let is_here = named.is_none_or(|named| named == *space);
        is_here.then(|| (Self { space_id: space.clone(), category, message, upstream }, created_at))
    }

    /// What it is, in the bridge's word.
    pub(super) fn category(&self) -> Option<&str> {
        self.category.as_deref()
    }

    /// The object as Spaces gave it.
    pub(super) fn upstream(&self) -> &RawValue {
        &self.upstream
    }

    pub(super) fn space(&self) -> &SpaceId {
        &self.space_id
    }
}

/// The categories that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HistoryCategory {
    /// Chat messages and comments.
    Chat,
    /// Posts.
    Post,
    /// Tasks.
    Task,
}

impl HistoryCategory {
    fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Post => "post",
            Self::Task => "task",
        }
    }
}

/// Which messages.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Only messages of this category.
    #[param(inline, nullable = false)]
    category: Option<HistoryCategory>,
    /// Only messages with these words, as Spaces compares them.
    #[param(min_length = 1, max_length = 200, nullable = false)]
    search: Option<String>,
    /// `true`: only messages with files.
    #[param(nullable = false)]
    files: Option<bool>,
    /// The comments on this post or task, in the order of Spaces. Goes with no other filter.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,128}$", nullable = false)]
    reply_to: Option<SpaceId>,
    /// Only messages created at or after this time.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    since: Option<Timestamp>,
    /// Only messages created before this time.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    before: Option<Timestamp>,
    /// Most entries of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<Limit>,
    /// Where to go on: `nextCursor` of the page before, with the same filters.
    #[param(max_length = 4096, nullable = false)]
    cursor: Option<String>,
}

/// What a page of the history belongs to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted {
    filter: HistoryFilter,
    since: Option<Timestamp>,
    reply_to: Option<SpaceId>,
}

/// Read a space's history
///
/// Newest first, straight from Spaces, whether or not the bridge listens to the space. Each entry has the form of an event's `data`.
/// With `replyTo`, the comments on one post or task.
#[utoipa::path(
    get,
    path = "/spaces/{spaceId}/messages",
    tag = "Messages",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        HistoryQuery,
        SpacePasswordHeader,
    ),
    responses(
        (status = 200, description = "A page of messages.", body = Page<SpaceMessage>),
        (status = 403, description = "`upstream_forbidden`: Spaces does not let this user read there, or wants the space's password (`X-Space-Password`). `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the space. `message_not_found`: its history has no post or task `replyTo`."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused to answer."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_messages(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(space): ApiPath<SpaceId>,
    ApiQuery(query): ApiQuery<HistoryQuery>,
    SpacePassword(password): SpacePassword,
) -> Result<Json<Page<SpaceMessage>>, ApiError> {
    caller.check_space(&space)?;
    let (query, wanted) = read_query(query)?;
    let (wanted, place) = FilteredPlace::of(&query, wanted)?.split();
    let session = caller.session(&app)?;
    let at = InSpace { credential: session.credential(), space: &space, password: password.as_ref() };
    let parent = match &wanted.reply_to {
        Some(id) => Some((find_parent(&app, &caller, at, id).await?, id.as_str())),
        None => None,
    };
    let mut gathering = Gathering::new(place, query.limit());
    while let Some(next) = gathering.wants() {
        let page = match parent {
            Some(parent) => app.rest.comments_page(at, parent, next.as_deref()).await,
            None => app.rest.messages_before(at, &wanted.filter, next.as_deref()).await,
        };
        let HistoryPage { messages, next } = page.map_err(|error| caller.told(error))?;
        gathering.add(messages, next, |raw| match SpaceMessage::read(&space, raw) {
            // The history is newest first, so all that follows is older still.
            Some((_, Some(created))) if wanted.since.is_some_and(|since| created < since) => Taken::End,
            Some((message, _)) => Taken::Given(message),
            None => Taken::LeftOut,
        });
    }
    let (messages, next) = gathering.end();
    Ok(Json(Page::new(messages, next.map(|place| FilteredPlace::new(wanted, place)))))
}

/// The upstream's category of the post or task `id` of a space.
async fn find_parent(app: &AppState, caller: &AccountCaller, at: InSpace<'_>, id: &SpaceId) -> Result<&'static str, ApiError> {
    match find(app, caller, at, id).await?.0.category.as_deref() {
        Some("post") => Ok("idea"),
        Some("task") => Ok("task"),
        _ => Err(ApiError::MessageNotInSpace),
    }
}

/// The message `id`, if the history of the space has it.
pub(super) async fn find(
    app: &AppState,
    caller: &AccountCaller,
    at: InSpace<'_>,
    id: &SpaceId,
) -> Result<(SpaceMessage, Option<Timestamp>), ApiError> {
    let found = app.rest.find_message(at, id.as_str()).await.map_err(|error| caller.told(error))?;
    found.and_then(|raw| SpaceMessage::read(at.space, raw)).ok_or(ApiError::MessageNotInSpace)
}

fn read_query(query: HistoryQuery) -> Result<(PageQuery, Wanted), ApiError> {
    let HistoryQuery { category, search, files, reply_to, since, before, limit, cursor } = query;
    check_search(search.as_deref())?;
    let category = category.map(|category| upstream_category(category.as_str()).to_owned());
    let filter = HistoryFilter { category, search, files: files.unwrap_or_default(), before };
    if reply_to.is_some() && (filter != HistoryFilter::default() || since.is_some()) {
        return Err(ApiError::InvalidQuery { detail: "`replyTo` goes with no other filter".to_owned() });
    }
    Ok((PageQuery::new(limit, cursor), Wanted { filter, since, reply_to }))
}
