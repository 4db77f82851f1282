//! What comes in: events and acknowledgements that share the text they arrived in.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Names the acknowledgement of one event on one connection.
///
/// The ids of the two directions are unrelated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(pub(crate) u64);

impl AckId {
    /// Returns the number on the wire.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a joined connection receives.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// An event of the server.
    Event(Event),
    /// The server's acknowledgement of an event sent with
    /// [`emit_with_ack`](crate::Connection::emit_with_ack).
    Ack(Ack),
    /// A binary event or acknowledgement; its attachments were read and dropped.
    BinarySkipped(BinarySkipped),
}

/// An event of the server.
///
/// Cloning is cheap; the clones share the text.
#[derive(Clone)]
pub struct Event {
    name: Name,
    args: Args,
    ack: Option<AckId>,
}

/// The server's acknowledgement of an event.
#[derive(Clone)]
pub struct Ack {
    id: AckId,
    args: Args,
}

/// A binary packet of which only this is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinarySkipped {
    /// Name of the event; none for an acknowledgement.
    pub event: Option<String>,
    /// For an event the acknowledgement that the server asks for, for an acknowledgement its id.
    pub ack: Option<AckId>,
    /// Number of attachments dropped.
    pub attachments: u32,
}

/// The arguments of an event or acknowledgement: JSON that nobody has parsed yet.
#[derive(Clone)]
pub struct Args {
    text: Arc<str>,
    ranges: Vec<Range<usize>>,
}

#[derive(Clone)]
enum Name {
    In(Range<usize>),
    Unescaped(Box<str>),
}

impl Event {
    pub(crate) fn new(text: &str, name: Cow<'_, str>, args: &[&str], ack: Option<u64>) -> Self {
        let name = match name {
            Cow::Borrowed(name) => Name::In(range_within(text, name)),
            Cow::Owned(name) => Name::Unescaped(name.into()),
        };
        Self { name, args: Args::new(text, args), ack: ack.map(AckId) }
    }

    /// Returns the name of the event.
    pub fn name(&self) -> &str {
        match &self.name {
            Name::In(range) => self.args.text.get(range.clone()).unwrap_or_default(),
            Name::Unescaped(name) => name,
        }
    }

    /// Returns the arguments.
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Returns one argument as JSON text; the first is 0.
    pub fn arg(&self, index: usize) -> Option<&str> {
        self.args.get(index)
    }

    /// Returns the id to answer with [`Connection::ack`](crate::Connection::ack) if the server asks for it.
    pub fn ack_id(&self) -> Option<AckId> {
        self.ack
    }
}

impl Ack {
    pub(crate) fn new(text: &str, id: u64, args: &[&str]) -> Self {
        Self { id: AckId(id), args: Args::new(text, args) }
    }

    /// Returns the id that [`emit_with_ack`](crate::Connection::emit_with_ack) gave.
    pub fn id(&self) -> AckId {
        self.id
    }

    /// Returns the arguments.
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Returns one argument as JSON text; the first is 0.
    pub fn arg(&self, index: usize) -> Option<&str> {
        self.args.get(index)
    }
}

impl Args {
    fn new(text: &str, args: &[&str]) -> Self {
        let ranges = args.iter().map(|arg| range_within(text, arg)).collect();
        Self { text: Arc::from(text), ranges }
    }

    /// Returns the number of arguments.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Tells whether there is no argument.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns one argument as JSON text, which is valid.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.ranges.get(index).map(|range| &self.text[range.clone()])
    }

    /// Returns one argument as raw JSON value.
    pub fn raw(&self, index: usize) -> Option<&RawValue> {
        self.get(index).and_then(|arg| serde_json::from_str(arg).ok())
    }

    /// Parses one argument; a missing one counts as `null`.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self, index: usize) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.get(index).unwrap_or("null"))
    }

    /// Returns all arguments as JSON text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ranges.iter().map(|range| &self.text[range.clone()])
    }

    /// Returns about how much memory the arguments hold.
    pub(crate) fn footprint(&self) -> usize {
        self.text.len() + self.ranges.len() * size_of::<Range<usize>>()
    }
}

impl Incoming {
    /// Returns about how much memory this holds.
    pub(crate) fn footprint(&self) -> usize {
        let held = match self {
            Self::Event(event) => event.args.footprint(),
            Self::Ack(ack) => ack.args.footprint(),
            Self::BinarySkipped(skipped) => skipped.event.as_ref().map_or(0, String::len),
        };
        size_of::<Self>() + held
    }
}

// Payloads belong to the application and may be private: `Debug` counts them.
impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Event").field("name", &self.name()).field("args", &self.args).field("ack", &self.ack).finish()
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ack").field("id", &self.id).field("args", &self.args).finish()
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} arguments]", self.ranges.len())
    }
}

/// Returns where `part`, a slice of `text`, lies in it.
fn range_within(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, PacketBody};

    fn event(text: &str) -> Event {
        match Packet::decode(text).expect("a packet").body {
            PacketBody::Event { name, args, ack } => Event::new(text, name, &args, ack),
            other => panic!("no event: {other:?}"),
        }
    }

    #[test]
    fn an_event_gives_its_parts_without_parsing_them() {
        let plain = event(r#"2["plain"]"#);
        assert_eq!((plain.name(), plain.args().is_empty()), ("plain", true));
        let event = event(r#"2/chat,7["gr\u0065et", {"name" : "Ada"},2]"#);
        assert_eq!(event.name(), "greet");
        assert_eq!(event.ack_id(), Some(AckId(7)));
        assert_eq!(event.args().iter().collect::<Vec<_>>(), [r#"{"name" : "Ada"}"#, "2"]);
        assert_eq!(event.arg(2), None);
        assert_eq!(event.args().raw(0).map(RawValue::get), Some(r#"{"name" : "Ada"}"#));
        assert_eq!(event.args().parse::<u8>(1).expect("a number"), 2);
        assert_eq!(event.args().parse::<Option<u8>>(2).expect("null"), None);
        assert_eq!(format!("{event:?}"), "Event { name: \"greet\", args: [2 arguments], ack: Some(AckId(7)) }");
    }
}
