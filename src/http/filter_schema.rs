//! How filters look in the `OpenAPI` document. Written by hand, because they are trees of objects with one member each.

use std::borrow::Cow;

use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{MAX_FILTER_PARTS, MAX_FILTER_VALUE};

/// The domain's expressions as the document shows them.
pub(super) struct FilterShape;

/// The same for what a text is like.
struct TextConditionShape;

/// What a filter may say, and what it means.
const CONDITIONS: [(&str, &str); 3] = [
    ("category", "The message is of this category: `chat`, `post`, `task`, or another one that Spaces uses."),
    ("sender", "The message is by the user with this id, or with this user name, which is an e-mail address."),
    ("mention", "The message mentions the user with this id; `me` is the account's own user."),
];

const TEXT_CONDITIONS: [(&str, &str); 3] = [
    ("contains", "It has this in it; upper and lower case count."),
    ("prefix", "It begins with this; upper and lower case count."),
    (
        "regex",
        "This regular expression is found in its first 4 KiB. The syntax is that of <https://docs.rs/regex/1/regex/#syntax>, \
         without back references and look-around; `(?i)` in front ignores case.",
    ),
];

impl PartialSchema for FilterShape {
    fn schema() -> RefOr<Schema> {
        let part = || Ref::from_schema_name(Self::name());
        let parts = |description: &str| {
            let most = MAX_FILTER_PARTS - 1;
            ArrayBuilder::new().items(part()).min_items(Some(1)).max_items(Some(most)).description(Some(description))
        };
        let mut object = one_member()
            .description(Some(
                "What a webhook wants of the messages. At most 8 levels deep, with 64 parts and 4 different regular expressions \
                 in all. A message without what a condition asks for does not meet it.",
            ))
            .examples([json!({"all": [{"category": "chat"}, {"text": {"regex": "(?i)outage"}}]})])
            .property("all", parts("Every one of these holds."))
            .property("any", parts("At least one of these holds."))
            .property("not", part());
        for (name, description) in CONDITIONS {
            object = object.property(name, value(description));
        }
        object.property("text", Ref::from_schema_name(TextConditionShape::name())).into()
    }
}

impl ToSchema for FilterShape {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Filter")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((TextConditionShape::name().into_owned(), TextConditionShape::schema()));
    }
}

impl PartialSchema for TextConditionShape {
    fn schema() -> RefOr<Schema> {
        let mut object = one_member().description(Some("What the text of a message, as a reader sees it, is like."));
        for (name, description) in TEXT_CONDITIONS {
            object = object.property(name, value(description));
        }
        object.into()
    }
}

impl ToSchema for TextConditionShape {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("TextCondition")
    }
}

/// An object with exactly one of its properties.
fn one_member() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .min_properties(Some(1))
        .max_properties(Some(1))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

fn value(description: &str) -> Object {
    let value = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(MAX_FILTER_VALUE));
    value.description(Some(description)).build()
}
