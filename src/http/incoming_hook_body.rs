//! What incoming hooks look like in the API: shown, to be made, to be changed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::direct::PeerType;
use super::error::ApiError;
use super::hook_template::TemplateForm;
use super::webhook_body::some;
use super::webhook_pace::{RateLimitForm, checked_rate};
use crate::domain::{AccountId, HookId, RateLimit, Secret, SpaceId, Timestamp};
use crate::incoming::{CheckKind, DEFAULT_RATE, Format, HookError, HookFailure, HookPatch, IncomingHook, Peer, Recipe, Template};

/// Longest name of a hook, in characters.
const MAX_NAME: usize = 100;

/// An incoming hook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = IncomingHook)]
pub(super) struct ShownHook {
    /// Its id.
    #[schema(value_type = String, example = "hook_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9")]
    pub(super) id: HookId,
    /// As whom it posts.
    #[schema(value_type = String, example = "acc_5a0b1c2d3e4f506172839405")]
    account: AccountId,
    /// What its owner calls it.
    #[schema(required, example = "Grafana")]
    name: Option<String>,
    /// Where it posts.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    space_id: SpaceId,
    /// Whom that space is with, if a person was named; else `null`.
    #[schema(value_type = Option<DirectTarget>, required)]
    direct: Option<Peer>,
    /// What it takes.
    #[schema(value_type = FormatWord)]
    format: &'static str,
    /// Its template, if that is the format; else `null`.
    #[schema(value_type = Option<TemplateForm>, required)]
    template: Option<Template>,
    /// How its senders prove themselves, beside knowing the address; `null` if not at all. The secret is never shown.
    #[schema(required)]
    check: Option<ShownCheck>,
    /// Most calls in a time.
    #[schema(value_type = RateLimitForm)]
    rate_limit: RateLimit,
    /// When it ends by itself; `null` for never.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// Whether it takes calls.
    enabled: bool,
    /// When the addresses before the newest end, newest first.
    #[schema(value_type = Vec<String>)]
    previous_end_at: Vec<Timestamp>,
    /// When it was last called since the service started; `null` if it was not.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_call_at: Option<Timestamp>,
    /// What went wrong last since the service started; `null` if nothing did. Events `hook.failed` tell of it too.
    #[schema(required)]
    last_failure: Option<ShownFailure>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Where to post, secret and all; shown when it is made or rotated, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "https://bridge.example.com/hooks/…")]
    pub(super) url: Option<String>,
}

/// How senders prove themselves.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncomingHookCheck)]
pub(super) struct ShownCheck {
    /// The way.
    #[schema(value_type = CheckWord)]
    r#type: &'static str,
}

/// Something that went wrong with a call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncomingHookFailure)]
pub(super) struct ShownFailure {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What, in one word.
    #[schema(example = "not_understood")]
    reason: &'static str,
    /// What, for people.
    detail: String,
}

/// What a hook takes.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = IncomingHookFormat)]
#[expect(dead_code, reason = "the formats as the document shows them")]
pub(super) enum FormatWord {
    /// Whatever it looks like: what a product below posts, a message in Slack's form, or words.
    Auto,
    /// Words: plain text, or the `text` or `message` of some JSON.
    Text,
    /// Messages of Slack's incoming webhooks: `text`, `blocks`, `attachments`, as JSON or as a form's `payload`. Answered with `ok`.
    Slack,
    /// The same in Mattermost's manner, with Markdown in the texts. Answered with `ok`.
    Mattermost,
    /// Grafana's alerts.
    Grafana,
    /// Prometheus Alertmanager.
    Alertmanager,
    /// GitHub's webhooks.
    Github,
    /// GitLab's webhooks.
    Gitlab,
    /// Jenkins, with the Notification plugin.
    Jenkins,
    /// Sentry's webhooks.
    Sentry,
    /// Uptime Kuma.
    UptimeKuma,
    /// Any JSON or text, by the hook's `template`.
    Template,
}

/// How senders prove themselves.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = IncomingHookCheckType)]
#[expect(dead_code, reason = "the checks as the document shows them")]
pub(super) enum CheckWord {
    /// `X-Hub-Signature-256`, as GitHub signs.
    Github,
    /// `X-Gitlab-Token`, as GitLab sends it.
    Gitlab,
    /// The headers of Standard Webhooks.
    Standard,
}

/// A person to write to; the direct space with them is found or made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IncomingHookDirect)]
pub(super) struct DirectTarget {
    /// What `id` is.
    #[serde(rename = "type")]
    pub(super) kind: PeerType,
    /// The person's id in Spaces, or their e-mail address with the type `email`.
    #[schema(min_length = 1, max_length = 254, example = "5a0b1c2d3e4f506172839405")]
    pub(super) id: String,
}

/// What senders prove themselves with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IncomingHookCheckSetting)]
pub(super) struct CheckForm {
    /// The way.
    #[serde(rename = "type", deserialize_with = "check_kind")]
    #[schema(value_type = CheckWord)]
    kind: CheckKind,
    /// The secret that the sender was given: 8 to 256 visible ASCII characters; for `standard` one that begins with `whsec_`.
    #[schema(value_type = String, min_length = 8, max_length = 256)]
    secret: Secret,
}

/// An incoming hook to be made: for a space, or for a person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(
    as = IncomingHookCreation,
    example = json!({"spaceId": "64f0a1b2c3d4e5f601020304", "name": "Grafana", "format": "grafana"}),
)]
pub(super) struct HookCreation {
    /// Where it is to post; this or `direct`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    space_id: Option<SpaceId>,
    /// To whom it is to post; this or `spaceId`.
    #[serde(default)]
    direct: Option<DirectTarget>,
    /// What to call it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// What it takes; if left out whatever it looks like, or what the template is for.
    #[serde(default, deserialize_with = "some_format")]
    #[schema(value_type = Option<FormatWord>, nullable = false)]
    format: Option<Format>,
    /// A template of your own, for the format `template`.
    #[serde(default)]
    template: Option<TemplateForm>,
    /// How its senders are to prove themselves; not at all if left out.
    #[serde(default)]
    check: Option<CheckForm>,
    /// Most calls in a time; 60 in a minute if left out.
    #[serde(default)]
    #[schema(value_type = Option<RateLimitForm>)]
    rate_limit: Option<RateLimit>,
    /// When it ends by itself; never if left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Whether it takes calls.
    #[serde(default = "yes")]
    #[schema(default = true)]
    enabled: bool,
}

/// A change of an incoming hook; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = IncomingHookChange, example = json!({"format": "auto", "enabled": true}))]
pub(super) struct HookChange {
    /// Another name; `null` for none.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    #[expect(clippy::option_option, reason = "a name that stays, one that goes, and a new one")]
    name: Option<Option<String>>,
    /// Another format.
    #[serde(default, deserialize_with = "some_format")]
    #[schema(value_type = Option<FormatWord>, nullable = false)]
    format: Option<Format>,
    /// Another template; `null` for none, which makes the format `auto` if nothing is said of it.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<TemplateForm>)]
    #[expect(clippy::option_option, reason = "a template that stays, one that goes, and a new one")]
    template: Option<Option<TemplateForm>>,
    /// Another check; `null` for none.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<CheckForm>)]
    #[expect(clippy::option_option, reason = "a check that stays, one that goes, and a new one")]
    check: Option<Option<CheckForm>>,
    /// Another rate.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<RateLimitForm>, nullable = false)]
    rate_limit: Option<RateLimit>,
    /// Another end; `null` for none.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[expect(clippy::option_option, reason = "an end that stays, one that goes, and a new one")]
    expires_at: Option<Option<Timestamp>>,
    /// Switched on or off.
    #[serde(default, deserialize_with = "some")]
    #[schema(nullable = false)]
    enabled: Option<bool>,
}

/// Where a hook is to post.
#[derive(Debug)]
pub(super) enum Target {
    Space(SpaceId),
    Direct(DirectTarget),
}

/// A hook to be made, checked but for its target.
#[derive(Debug)]
pub(super) struct CheckedHook {
    pub(super) target: Target,
    pub(super) name: Option<String>,
    pub(super) recipe: Recipe,
    pub(super) check: Option<(CheckKind, Secret)>,
    pub(super) rate: RateLimit,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) enabled: bool,
}

impl HookCreation {
    pub(super) fn checked(self, now: Timestamp) -> Result<CheckedHook, ApiError> {
        let target = match (self.space_id, self.direct) {
            (Some(space), None) if space.is_nowhere() => return Err(ApiError::field("/spaceId", "this is no space")),
            (Some(space), None) => Target::Space(space),
            (None, Some(person)) => Target::Direct(person),
            (None, None) => return Err(ApiError::field("", "an incoming hook has a `spaceId` or a `direct`")),
            (Some(_), Some(_)) => return Err(ApiError::field("/direct", "an incoming hook has one of `spaceId` and `direct`")),
        };
        Ok(CheckedHook {
            target,
            name: self.name.map(checked_name).transpose()?,
            recipe: Recipe::default()
                .changed(self.format, self.template.map(|template| template.checked().map(Some)).transpose()?)
                .ok_or(HookError::TemplateMismatch)?,
            check: self.check.map(CheckForm::checked).transpose()?,
            rate: checked_rate(self.rate_limit)?.unwrap_or(DEFAULT_RATE),
            expires_at: self.expires_at.map(|end| checked_end(end, now)).transpose()?,
            enabled: self.enabled,
        })
    }
}

impl HookChange {
    pub(super) fn checked(self, now: Timestamp) -> Result<HookPatch, ApiError> {
        Ok(HookPatch {
            name: self.name.map(|name| name.map(checked_name).transpose()).transpose()?,
            format: self.format,
            template: self.template.map(|template| template.map(TemplateForm::checked).transpose()).transpose()?,
            check: self.check.map(|check| check.map(CheckForm::checked).transpose()).transpose()?,
            rate: checked_rate(self.rate_limit)?,
            expires_at: self.expires_at.map(|end| end.map(|end| checked_end(end, now)).transpose()).transpose()?,
            enabled: self.enabled,
        })
    }
}

impl CheckForm {
    fn checked(self) -> Result<(CheckKind, Secret), ApiError> {
        if self.kind.takes(&self.secret) {
            return Ok((self.kind, self.secret));
        }
        Err(ApiError::field(
            "/check/secret",
            match self.kind {
                CheckKind::Github | CheckKind::Gitlab => "it has 8 to 256 visible ASCII characters",
                CheckKind::Standard => "it is `whsec_` and the base64 of 24 to 64 bytes",
            },
        ))
    }
}

impl ShownHook {
    pub(super) fn of(app: &AppState, hook: &IncomingHook) -> Self {
        let seen = app.hooks.activity(hook).map(|activity| activity.seen()).unwrap_or_default();
        Self {
            id: hook.id.clone(),
            account: hook.account.clone(),
            name: hook.name.clone(),
            space_id: hook.space.clone(),
            direct: hook.direct.clone(),
            format: hook.recipe.format.as_str(),
            template: hook.recipe.template.clone(),
            check: hook.check.as_ref().map(|check| ShownCheck { r#type: check.kind.as_str() }),
            rate_limit: hook.rate,
            expires_at: hook.expires_at,
            enabled: hook.enabled,
            previous_end_at: hook.previous_ends(app.clock.now()),
            last_call_at: seen.last_call_at,
            last_failure: seen.last_failure.map(|HookFailure { at, reason, detail }| ShownFailure { at, reason, detail }),
            created_at: hook.created_at,
            url: None,
        }
    }
}

fn checked_name(name: String) -> Result<String, ApiError> {
    if (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control) {
        return Ok(name);
    }
    Err(ApiError::field("/name", format!("a name has 1 to {MAX_NAME} characters and no control characters")))
}

fn checked_end(end: Timestamp, now: Timestamp) -> Result<Timestamp, ApiError> {
    if now < end { Ok(end) } else { Err(ApiError::field("/expiresAt", "the end of an incoming hook lies in the future")) }
}

fn yes() -> bool {
    true
}

pub(super) fn some_format<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn check_kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<CheckKind, D::Error> {
    let text = String::deserialize(deserializer)?;
    CheckKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| serde::de::Error::custom("unknown check; it is one of `github`, `gitlab` and `standard`"))
}
