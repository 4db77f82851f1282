//! Reading an expression. serde's own way of reading an enum would call an object with two members malformed JSON; here it is told
//! that it is one too many.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{Expression, TextCondition};

/// What is written as an object with one member.
trait OneMember: Sized {
    /// The names that the member may have.
    type Name: for<'de> Deserialize<'de>;

    /// What it is called in an error.
    const EXPECTED: &'static str;

    /// Reads the member's value.
    fn read<'de, A: MapAccess<'de>>(name: Self::Name, map: &mut A) -> Result<Self, A::Error>;
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
enum ExpressionName {
    All,
    Any,
    Not,
    Category,
    Sender,
    Mention,
    Text,
}

impl OneMember for Expression {
    type Name = ExpressionName;

    const EXPECTED: &'static str = "an object with one of `all`, `any`, `not`, `category`, `sender`, `mention`, `text`";

    fn read<'de, A: MapAccess<'de>>(name: ExpressionName, map: &mut A) -> Result<Self, A::Error> {
        Ok(match name {
            ExpressionName::All => Self::All(map.next_value()?),
            ExpressionName::Any => Self::Any(map.next_value()?),
            ExpressionName::Not => Self::Not(map.next_value()?),
            ExpressionName::Category => Self::Category(map.next_value()?),
            ExpressionName::Sender => Self::Sender(map.next_value()?),
            ExpressionName::Mention => Self::Mention(map.next_value()?),
            ExpressionName::Text => Self::Text(map.next_value()?),
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
enum TextConditionName {
    Contains,
    Prefix,
    Regex,
}

impl OneMember for TextCondition {
    type Name = TextConditionName;

    const EXPECTED: &'static str = "an object with one of `contains`, `prefix`, `regex`";

    fn read<'de, A: MapAccess<'de>>(name: TextConditionName, map: &mut A) -> Result<Self, A::Error> {
        Ok(match name {
            TextConditionName::Contains => Self::Contains(map.next_value()?),
            TextConditionName::Prefix => Self::Prefix(map.next_value()?),
            TextConditionName::Regex => Self::Regex(map.next_value()?),
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
        let Some(name) = map.next_key()? else {
            return Err(A::Error::custom(format_args!("it is empty, expected {}", T::EXPECTED)));
        };
        let value = T::read(name, &mut map)?;
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
