//! Reading an expression. serde's own way of reading an enum would call an object with two members malformed JSON; here it is told
//! that it is one too many.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{Expression, TextCondition};

/// What is written as an object with one member.
trait OneMember: Sized {
    /// The names that the member may have.
    const NAMES: &'static [&'static str];

    /// What it is called in an error.
    const EXPECTED: &'static str;

    /// Reads the value of the member `name`.
    fn read<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error>;
}

impl OneMember for Expression {
    const NAMES: &'static [&'static str] = &["all", "any", "not", "category", "sender", "mention", "text"];

    const EXPECTED: &'static str = "an object with one of `all`, `any`, `not`, `category`, `sender`, `mention`, `text`";

    fn read<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
        Ok(match name {
            "all" => Self::All(map.next_value()?),
            "any" => Self::Any(map.next_value()?),
            "not" => Self::Not(map.next_value()?),
            "category" => Self::Category(map.next_value()?),
            "sender" => Self::Sender(map.next_value()?),
            "mention" => Self::Mention(map.next_value()?),
            "text" => Self::Text(map.next_value()?),
            _ => return Err(A::Error::unknown_field(name, Self::NAMES)),
        })
    }
}

impl OneMember for TextCondition {
    const NAMES: &'static [&'static str] = &["contains", "prefix", "regex"];

    const EXPECTED: &'static str = "an object with one of `contains`, `prefix`, `regex`";

    fn read<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
        Ok(match name {
            "contains" => Self::Contains(map.next_value()?),
            "prefix" => Self::Prefix(map.next_value()?),
            "regex" => Self::Regex(map.next_value()?),
            _ => return Err(A::Error::unknown_field(name, Self::NAMES)),
        })
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: OneMember> Visitor<'de> for Reader<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let Some(name) = map.next_key::<String>()? else {
            return Err(A::Error::custom(format_args!("it is empty, expected {}", T::EXPECTED)));
        };
        let value = T::read(&name, &mut map)?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom(format_args!(
                "it has more than one member, expected {}; `all` combines several",
                T::EXPECTED
            )));
        }
        Ok(value)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

impl<'de> Deserialize<'de> for TextCondition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader(PhantomData))
    }
}
