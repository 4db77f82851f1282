//! The bridge's own forms of a message as the `OpenAPI` document shows them; [`super::form`] reads them.

#![expect(dead_code, reason = "what the document shows; the fields are read all alike elsewhere")]

use utoipa::ToSchema;

use super::Attachment;
use super::form::TaskStatus;
use crate::domain::Timestamp;

/// Plain text, shown as it is; line breaks are kept, web addresses become links, and `@[Name](userId)` mentions somebody.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"text": "build 41 is green"}))]
#[serde(deny_unknown_fields)]
pub(super) struct TextMessage {
    /// That it is a chat message.
    #[schema(default = "chat", nullable = false)]
    category: Option<ChatCategory>,
    /// What to say.
    #[schema(pattern = r"\S", example = "build 41 is green")]
    text: String,
    /// The post or task to comment on.
    #[schema(nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<String>,
    /// Whom to tell of it, beside those whom the text mentions.
    #[schema(max_items = 100, nullable = false)]
    mentions: Option<Vec<MentionShape>>,
    /// Files to attach, uploaded before.
    #[schema(max_items = 100, nullable = false)]
    attachments: Option<Vec<Attachment>>,
    /// Whether words that are too long for one message become several, in order; else that is refused.
    #[schema(nullable = false, default = false)]
    split: Option<bool>,
}

/// Markdown (`CommonMark`, and `~~struck~~`). HTML within it is shown as it is written; a line break is a line break;
/// `@[Name](userId)` mentions somebody.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"markdown": "**build 41** is green, see [the log](https://ci.example/41)"}))]
#[serde(deny_unknown_fields)]
pub(super) struct MarkdownMessage {
    /// That it is a chat message.
    #[schema(default = "chat", nullable = false)]
    category: Option<ChatCategory>,
    /// What to say.
    #[schema(min_length = 1, example = "**build 41** is green")]
    markdown: String,
    /// The post or task to comment on.
    #[schema(nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<String>,
    /// Whom to tell of it, beside those whom the text mentions.
    #[schema(max_items = 100, nullable = false)]
    mentions: Option<Vec<MentionShape>>,
    /// Files to attach, uploaded before.
    #[schema(max_items = 100, nullable = false)]
    attachments: Option<Vec<Attachment>>,
    /// Whether words that are too long for one message become several, in order; else that is refused.
    #[schema(nullable = false, default = false)]
    split: Option<bool>,
}

/// HTML. Elements and attributes that Spaces does not show are removed: `a` (with `href`, `title`), `b`, `blockquote`, `br`, `code`,
/// `del`, `div`, `em`, `h1`, `h2`, `h3`, `i`, `li`, `mention` (with `id`, `type`, `value`), `ol`, `p`, `pre`, `s`, `span`, `strike`,
/// `strong`, `sub`, `sup`, `u`, `ul` stay. `@[Name](userId)` mentions somebody.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"html": "<p>build <b>41</b> is green</p>"}))]
#[serde(deny_unknown_fields)]
pub(super) struct HtmlMessage {
    /// That it is a chat message.
    #[schema(default = "chat", nullable = false)]
    category: Option<ChatCategory>,
    /// What to say.
    #[schema(min_length = 1, example = "<p>build <b>41</b> is green</p>")]
    html: String,
    /// The post or task to comment on.
    #[schema(nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<String>,
    /// Whom to tell of it, beside those whom the text mentions.
    #[schema(max_items = 100, nullable = false)]
    mentions: Option<Vec<MentionShape>>,
    /// Files to attach, uploaded before.
    #[schema(max_items = 100, nullable = false)]
    attachments: Option<Vec<Attachment>>,
    /// Whether words that are too long for one message become several, in order; else that is refused.
    #[schema(nullable = false, default = false)]
    split: Option<bool>,
}

/// Files without words.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
pub(super) struct FileMessage {
    /// That it is a chat message.
    #[schema(default = "chat", nullable = false)]
    category: Option<ChatCategory>,
    /// Files to attach, uploaded before.
    #[schema(min_items = 1, max_items = 100)]
    attachments: Vec<Attachment>,
    /// The post or task to comment on.
    #[schema(nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<String>,
    /// Whom to tell of it.
    #[schema(max_items = 100, nullable = false)]
    mentions: Option<Vec<MentionShape>>,
    /// Changes nothing where there are no words.
    #[schema(nullable = false, default = false)]
    split: Option<bool>,
}

/// A post: a title, and what there is to say about it in one of `text`, `markdown`, `html` and `description`, which is plain text too.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"category": "post", "title": "Release 41", "markdown": "- faster\n- smaller"}))]
#[serde(deny_unknown_fields)]
pub(super) struct PostMessage {
    /// That it is a post.
    category: PostCategory,
    /// Its title, plain text.
    #[schema(pattern = r"\S", example = "Release 41")]
    title: String,
    /// What to say about it, as plain text.
    #[schema(nullable = false)]
    text: Option<String>,
    /// What to say about it, as Markdown.
    #[schema(nullable = false)]
    markdown: Option<String>,
    /// What to say about it, as HTML.
    #[schema(nullable = false)]
    html: Option<String>,
    /// The same as `text`.
    #[schema(nullable = false)]
    description: Option<String>,
    /// Whom to tell of it, beside those whom the text mentions.
    #[schema(max_items = 100, nullable = false)]
    mentions: Option<Vec<MentionShape>>,
    /// Files to attach, uploaded before.
    #[schema(max_items = 100, nullable = false)]
    attachments: Option<Vec<Attachment>>,
}

/// A task: as a post, with those who are to do it, until when, and how far it is.
#[derive(ToSchema)]
#[schema(
    rename_all = "camelCase",
    example = json!({"category": "task", "title": "Rotate keys", "text": "before Friday", "assignees": ["5a0b1c2d3e4f506172839405"], "dueDate": "2031-03-14T17:00:00Z"})
)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskMessage {
    /// That it is a task.
    category: TaskCategory,
    /// Its title, plain text.
    #[schema(pattern = r"\S", example = "Rotate keys")]
    title: String,
    /// What there is to do, as plain text.
    #[schema(nullable = false)]
    text: Option<String>,
    /// What there is to do, as Markdown.
    #[schema(nullable = false)]
    markdown: Option<String>,
    /// What there is to do, as HTML.
    #[schema(nullable = false)]
    html: Option<String>,
    /// The same as `text`.
    #[schema(nullable = false)]
    description: Option<String>,
    /// Who is to do it: ids in Spaces, or e-mail addresses.
    #[schema(max_items = 100, nullable = false, value_type = Option<Vec<String>>, example = json!(["5a0b1c2d3e4f506172839405"]))]
    assignees: Option<Vec<String>>,
    /// Until when.
    #[schema(nullable = false, value_type = Option<String>, format = DateTime)]
    due_date: Option<Timestamp>,
    /// How far it is.
    #[schema(nullable = false, default = "pending")]
    status: Option<TaskStatus>,
    /// Whom to tell of it, beside those whom the text mentions.
    #[schema(max_items = 100, nullable = false)]
    mentions: Option<Vec<MentionShape>>,
    /// Files to attach, uploaded before.
    #[schema(max_items = 100, nullable = false)]
    attachments: Option<Vec<Attachment>>,
}

/// Chat messages and comments.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum ChatCategory {
    /// A chat message, or a comment.
    Chat,
}

/// Posts.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum PostCategory {
    /// A post.
    Post,
}

/// Tasks.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum TaskCategory {
    /// A task.
    Task,
}

/// Somebody to tell: the id in Spaces, alone or with a name.
#[derive(ToSchema)]
#[schema(as = Mention)]
#[serde(untagged)]
pub(super) enum MentionShape {
    /// The id.
    Id(String),
    /// The id and the name.
    Named(NamedMentionShape),
}

/// Somebody to tell, with a name.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", as = NamedMention)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedMentionShape {
    /// The user's id in Spaces.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,128}$", example = "5a0b1c2d3e4f506172839405")]
    id: String,
    /// The name.
    #[schema(nullable = false, max_length = 256, example = "Ana Ruiz")]
    name: Option<String>,
}
