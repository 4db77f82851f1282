//! What goes wrong, and how often: the switches of the fake upstream.
//!
//! Each part of [`Script`] is a [`Switch`]: off, on for the next few times, or on until turned off. There is one script
//! for everybody and one for each token that asks for its own; a token's own switch is asked first.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

pub use crate::rest_script::{ErrorBody, RestFault, RestScript};
pub use crate::switch::Switch;

/// How a client is told that it may not come in, or is left to guess it.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// `44/chat,"<text>"`, the socket stays open.
    Text(String),
    /// `44/chat,{…}`, the socket stays open.
    Object(Value),
    /// `44"<text>"` for the root namespace, then nothing at all for `/chat`.
    RootText(String),
    /// `41/chat` in place of the acknowledgement, the socket stays open.
    Kick,
    /// The WebSocket is closed without an answer to the join.
    Close,
    /// The join is never answered; pings are.
    Silence,
    /// An HTTP answer in place of the upgrade.
    Http {
        /// The status, for example 401, 403 or 400.
        status: u16,
        /// The body, for example `Forbidden`.
        body: String,
        /// The value of `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The TCP connection ends without any HTTP answer.
    Hangup,
    /// The upgrade is never answered.
    Unanswered,
    /// The upgrade is accepted and then nothing is ever sent, not even the open packet.
    Mute,
}

impl Refusal {
    /// An HTTP answer with a plain body.
    pub fn http(status: u16, body: &str) -> Self {
        Self::Http { status, body: body.to_owned(), retry_after: None }
    }

    /// Whether it happens before the WebSocket exists.
    pub(crate) fn is_at_upgrade(&self) -> bool {
        matches!(self, Self::Http { .. } | Self::Hangup | Self::Unanswered | Self::Mute)
    }
}

/// When `40`, the acknowledgement of the root namespace, is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootConnect {
    /// Right after the open packet.
    Before,
    /// After the acknowledgement of `/chat`.
    After,
    /// Never, as socket.io 2.0.4 does when `/chat` has a middleware.
    Never,
    /// This long after the open packet.
    Late(Duration),
}

/// How the join of `/chat` is acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub enum AckStyle {
    /// `40/chat,` as 2.0.4 writes it.
    Comma,
    /// `40/chat` as 1.7.3 writes it.
    Bare,
    /// `40/chat,` followed by this JSON.
    WithData(Value),
}

/// What befalls the answer to one `SUBSCRIBE_CHANNEL`.
#[derive(Debug, Clone, PartialEq)]
pub enum SubscribeFault {
    /// `SUBSCRIBE_CHANNEL_FAILED` with this code and text.
    Refused {
        /// The value of `error.code`.
        code: String,
        /// The value of `error.message`.
        message: String,
        /// Whether the failure names the channel.
        with_channel: bool,
    },
    /// No answer and no subscription.
    Ignored,
    /// Subscribed, but `CHANNEL_SUBSCRIBED` is never sent.
    Unanswered,
    /// Subscribed and answered this much later.
    Late(Duration),
    /// `CHANNEL_SUBSCRIBED` is sent twice.
    AnsweredTwice,
}

/// What befalls the copy of `MESSAGE_SENT` that goes to the socket that sent the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EchoFault {
    /// It comes this much later.
    Late(Duration),
    /// It is kept until `FakeUpstream::release`.
    Held,
    /// It never comes.
    Missing,
    /// It comes without `loopbackMetadata`.
    WithoutLoopback,
    /// It comes twice.
    Twice,
}

/// What befalls all copies of one `MESSAGE_SENT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventFault {
    /// They come this much later.
    Late(Duration),
    /// They are kept until `FakeUpstream::release`.
    Held,
    /// They never come.
    Missing,
    /// They come twice.
    Twice,
    /// They come after the next event that does not suffer this, the last one first.
    Overtaken,
}

/// What the server makes of the text that it stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    /// Wrapped in `<p>…</p>` unless it already is.
    Paragraph,
    /// Quotes and apostrophes become `&quot;` and `&#x27;`.
    Entities,
    /// Both.
    ParagraphAndEntities,
    /// Every character special to HTML becomes an entity, tags included.
    Escaped,
}

impl TextStyle {
    pub(crate) fn apply(self, text: &str) -> String {
        match self {
            Self::Paragraph if text.starts_with("<p>") => text.to_owned(),
            Self::Paragraph => format!("<p>{text}</p>"),
            Self::Entities => text.replace('\'', "&#x27;").replace('"', "&quot;"),
            Self::ParagraphAndEntities => Self::Paragraph.apply(&Self::Entities.apply(text)),
            Self::Escaped => {
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                Self::Entities.apply(&text)
            }
        }
    }
}

/// Where in a failure the word `app.event.channel.subscription.required` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `error`, as a string.
    Error,
    /// `error.code`.
    ErrorCode,
    /// `category`.
    Category,
    /// `type`.
    Type,
    /// `code`.
    Code,
}

/// How one `SEND_MESSAGE` fails. Nothing is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum SendRefusal {
    /// `error` is a string, the sender is completed; the documented one is `not.authorized.by.topic.policy`.
    Text(String),
    /// `error` is an object with a code and a text.
    Object {
        /// The value of `error.code`.
        code: String,
        /// The value of `error.message`.
        message: String,
    },
    /// The payload comes back unchanged, without `error`.
    Bare,
    /// The word `app.event.channel.subscription.required` at the given place.
    SubscriptionRequired(Place),
    /// No answer at all.
    Silence,
}

impl SendRefusal {
    /// The refusal that the documentation names.
    pub fn policy() -> Self {
        Self::Text("not.authorized.by.topic.policy".to_owned())
    }
}

/// A blow that hits the connection on receiving a `SEND_MESSAGE`.
#[derive(Debug, Clone, PartialEq)]
pub enum SendFault {
    /// The message is not stored, then the fault strikes.
    BeforeStoring(Fault),
    /// The message is stored and shown to others, the sender gets the fault in place of the echo.
    AfterStoring(Fault),
}

/// Something that happens to an open connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// `41/chat`; the socket stays open and pings are answered.
    Kick,
    /// `41`, `41/chat`, then the WebSocket is closed.
    Disconnect,
    /// An empty close frame, as on a shutdown.
    Close,
    /// A close frame with this code.
    CloseWith(u16),
    /// The connection ends without a close frame.
    Cut,
    /// The connection ends with a TCP reset.
    Reset,
    /// Nothing is sent any more and nothing read has any effect; the socket stays open.
    Freeze,
    /// Ends [`Fault::Freeze`].
    Thaw,
    /// The server forgets the client in `/chat` without a word; pings are answered.
    Deafen,
    /// The server forgets the subscription to this space without a word.
    Unsubscribe(String),
    /// This text frame is sent as it is.
    Frame(String),
    /// This binary frame is sent as it is.
    Binary(Vec<u8>),
}

/// What happens to an open connection when its token ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Expiry {
    /// Nothing; only new connections and REST calls are refused.
    Kept,
    /// The connection suffers this fault.
    Fault(Fault),
}

/// What happens to the emit that goes beyond a limit.
#[derive(Debug, Clone, PartialEq)]
pub enum OverLimit {
    /// It is dropped without a word.
    Silence,
    /// A `SEND_MESSAGE` is answered with `SEND_MESSAGE_FAILED` and this `error`; other events are dropped.
    Failed(String),
    /// The connection suffers this fault.
    Fault(Fault),
}

/// How an edit or a deletion looks in `MESSAGE_SENT`; the documentation leaves it open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeStyle {
    /// The category stays, `modified` moves; a deletion also has `isDeleted`.
    Flag,
    /// The category becomes this word.
    Category(String),
}

/// The style of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pagination {
    /// `page`, `from`, `to`, `total`.
    Page,
    /// `pageToken`, with `total` counting this page only.
    Cursor,
}

/// How a list says that it has no further page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfList {
    /// The key is missing.
    Missing,
    /// The key is `""`.
    Empty,
    /// The key is `"end"`.
    End,
    /// The key names a page that turns out to be empty.
    EmptyPage,
}

/// All the switches. Everything off is the documented behaviour.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Joins that are refused although the token is good.
    pub refuse: Switch<Refusal>,
    /// The shape in which a bad token is refused; off is `44/chat,"Not authorized"`.
    pub bad_token: Switch<Refusal>,
    /// When `40` is sent; off is [`RootConnect::Before`].
    pub root_connect: Switch<RootConnect>,
    /// How the join is acknowledged; off is [`AckStyle::Comma`].
    pub ack_style: Switch<AckStyle>,
    /// The acknowledgement of the join comes this much later.
    pub ack_delay: Switch<Duration>,
    /// What a connection suffers right after its join.
    pub after_join: Switch<Fault>,
    /// What befalls answers to `SUBSCRIBE_CHANNEL`.
    pub subscribe: Switch<SubscribeFault>,
    /// Sends that fail.
    pub send_refusal: Switch<SendRefusal>,
    /// Blows that strike on a send.
    pub send_fault: Switch<SendFault>,
    /// Where the word stands when a send lacks its subscription; off is [`Place::Error`].
    pub subscription_required: Switch<Place>,
    /// Failures come back without the `loopbackMetadata` that was sent.
    pub failure_without_loopback: Switch<()>,
    /// What befalls echoes.
    pub echo: Switch<EchoFault>,
    /// What befalls events, echoes included.
    pub events: Switch<EventFault>,
    /// What the server makes of texts.
    pub text: Switch<TextStyle>,
    /// How edits look in events; off is [`ChangeStyle::Flag`].
    pub edits: Switch<ChangeStyle>,
    /// How deletions look in events; off is [`ChangeStyle::Flag`].
    pub deletions: Switch<ChangeStyle>,
    /// Pings that are not answered.
    pub withhold_pong: Switch<()>,
    /// What a connection suffers when its token ends; off is [`Expiry::Kept`].
    pub expiry: Switch<Expiry>,
    /// How a connection beyond the limit is refused; off is `44/chat,"Too many connections"`.
    pub over_connections: Switch<Refusal>,
    /// What happens to emits beyond the rate; off is [`OverLimit::Silence`].
    pub over_emits: Switch<OverLimit>,
    /// What happens to emits that are too large; off is [`OverLimit::Silence`].
    pub over_payload: Switch<OverLimit>,
    /// What goes wrong with REST calls.
    pub rest: RestScript,
    /// The style of lists; off is [`Pagination::Page`] unless the caller sends a cursor.
    pub pagination: Switch<Pagination>,
    /// How lists end; off is [`EndOfList::Missing`].
    pub end_of_list: Switch<EndOfList>,
}

/// The script for everybody and those of single tokens.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    pub(crate) everybody: Script,
    pub(crate) tokens: HashMap<String, Script>,
}

impl Scripts {
    /// Counts one occasion of the picked switch for the token and answers what should happen.
    pub(crate) fn take<T: Clone>(&mut self, token: &str, pick: impl Fn(&mut Script) -> &mut Switch<T>) -> Option<T> {
        let own = self.tokens.get_mut(token).and_then(|script| pick(script).take());
        own.or_else(|| pick(&mut self.everybody).take())
    }

    /// As [`Scripts::take`], but leaves the occasion alone unless it is `wanted`.
    pub(crate) fn take_if<T: Clone>(
        &mut self,
        token: &str,
        pick: impl Fn(&mut Script) -> &mut Switch<T>,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<T> {
        if let Some(script) = self.tokens.get_mut(token)
            && let Some(behaviour) = pick(script).peek()
        {
            return if wanted(behaviour) { pick(script).take() } else { None };
        }
        let switch = pick(&mut self.everybody);
        if switch.peek().is_some_and(wanted) { switch.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_own_switch_is_asked_first() {
        let mut scripts = Scripts::default();
        scripts.everybody.withhold_pong.next(1, ());
        scripts.tokens.entry("t".to_owned()).or_default().withhold_pong.next(1, ());
        assert_eq!(scripts.take("t", |script| &mut script.withhold_pong), Some(()));
        assert_eq!(scripts.take("other", |script| &mut script.withhold_pong), Some(()));
        assert_eq!(scripts.take("t", |script| &mut script.withhold_pong), None);
    }

    #[test]
    fn texts_are_wrapped_and_escaped() {
        assert_eq!(TextStyle::ParagraphAndEntities.apply("it's"), "<p>it&#x27;s</p>");
        assert_eq!(TextStyle::Escaped.apply("<b>\"&"), "&lt;b&gt;&quot;&amp;");
        assert_eq!(TextStyle::Paragraph.apply("<p>x</p>"), "<p>x</p>");
    }
}
