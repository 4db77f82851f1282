use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn filter(expression: Value) -> Filter {
    let expression = serde_json::from_value(expression).expect("an expression");
    Filter::new(expression).expect("a filter")
}

fn refusal(expression: Value) -> FilterError {
    let expression = serde_json::from_value(expression).expect("an expression");
    Filter::new(expression).expect_err("a refusal")
}

/// Ana writes to Bo's account.
fn message() -> MessageFacts<'static> {
    MessageFacts {
        category: Some("chat".into()),
        sender: Some("u1".into()),
        username: Some("Ana@Example.com".into()),
        mentions: vec!["u2".into(), "u3".into()],
        me: Some("u2".into()),
        text: "Deploy of build 41 failed in Grünau".into(),
    }
}

#[test]
fn every_condition_says_yes_or_no() {
    for (expression, expected) in [
        (json!({"category": "chat"}), true),
        (json!({"category": "post"}), false),
        (json!({"sender": "u1"}), true),
        (json!({"sender": "ana@example.COM"}), true),
        (json!({"sender": "Ana"}), false),
        (json!({"sender": "U1"}), false),
        (json!({"mention": "me"}), true),
        (json!({"mention": "u3"}), true),
        (json!({"mention": "u1"}), false),
        (json!({"text": {"contains": "build 41"}}), true),
        (json!({"text": {"contains": "Build 41"}}), false),
        (json!({"text": {"prefix": "Deploy"}}), true),
        (json!({"text": {"prefix": "build"}}), false),
        (json!({"text": {"regex": r"build \d+ (failed|broke)\b"}}), true),
        (json!({"text": {"regex": r"(?i)^DEPLOY\b.*\bgrünau$"}}), true),
        (json!({"text": {"regex": "^build"}}), false),
        (json!({"all": [{"category": "chat"}, {"sender": "u1"}]}), true),
        (json!({"all": [{"category": "chat"}, {"sender": "u9"}]}), false),
        (json!({"any": [{"category": "post"}, {"sender": "u1"}]}), true),
        (json!({"any": [{"category": "post"}, {"sender": "u9"}]}), false),
        (json!({"not": {"category": "post"}}), true),
        (json!({"not": {"any": [{"category": "post"}, {"text": {"contains": "failed"}}]}}), false),
    ] {
        assert_eq!(filter(expression.clone()).matches(&message()), expected, "{expression}");
    }
}

#[test]
fn what_is_missing_meets_no_condition() {
    let nothing = MessageFacts::default();
    for expression in
        [json!({"category": "chat"}), json!({"sender": "u1"}), json!({"mention": "me"}), json!({"text": {"contains": "a"}})]
    {
        assert!(!filter(expression.clone()).matches(&nothing), "{expression}");
        assert!(filter(json!({"not": expression})).matches(&nothing));
    }
}

#[test]
fn the_part_that_fails_is_pointed_at() {
    for (expression, pointer) in [
        (json!({"category": "post"}), "/category"),
        (json!({"text": {"regex": "^x"}}), "/text/regex"),
        (json!({"all": [{"category": "chat"}, {"all": [{"mention": "me"}, {"sender": "u9"}]}]}), "/all/1/all/1/sender"),
        (json!({"all": [{"any": [{"sender": "u8"}, {"sender": "u9"}]}]}), "/all/0/any"),
        (json!({"all": [{"category": "chat"}, {"not": {"mention": "me"}}]}), "/all/1/not"),
    ] {
        assert_eq!(filter(expression.clone()).failing(&message()).as_deref(), Some(pointer), "{expression}");
    }
    assert_eq!(filter(json!({"category": "chat"})).failing(&message()), None);
}

#[test]
fn what_makes_no_sense_or_is_too_much_is_refused_where_it_stands() {
    let many = |count| vec![json!({"category": "chat"}); count];
    let patterns: Vec<_> = (0..5).map(|number| json!({"text": {"regex": format!("a{number}")}})).collect();
    let mut deep = json!({"category": "chat"});
    for _ in 1..MAX_DEPTH {
        deep = json!({"not": deep});
    }
    assert!(filter(deep.clone()).matches(&message()) == (MAX_DEPTH % 2 == 1));
    for (expression, pointer, word) in [
        (json!({"all": []}), "/all", "at least one"),
        (json!({"not": {"any": []}}), "/not/any", "at least one"),
        (json!({"all": [{"category": "chat"}, {"category": "idea"}]}), "/all/1/category", "`post`"),
        (json!({"sender": ""}), "/sender", "1 to 256"),
        (json!({"text": {"contains": "a".repeat(257)}}), "/text/contains", "1 to 256"),
        (json!({"text": {"regex": "a".repeat(257)}}), "/text/regex", "1 to 256"),
        (json!({"text": {"regex": "("}}), "/text/regex", "unclosed group"),
        (json!({"text": {"regex": r"(a)\1"}}), "/text/regex", "backreferences"),
        (json!({"text": {"regex": "(?:a{1000}){1000}"}}), "/text/regex", "written out"),
        (json!({"text": {"regex": "[ab]*a[ab]{255}c"}}), "/text/regex", "written out"),
        (json!({"text": {"regex": r"\w{200}"}}), "/text/regex", "too much room"),
        (json!({"all": many(MAX_FILTER_PARTS)}), "/all/63", "64 parts"),
        (json!({"any": patterns}), "/any/4/text/regex", "4 regular expressions"),
        (json!({"not": deep}), "/not/not/not/not/not/not/not/not", "8 levels"),
    ] {
        let refused = refusal(expression.clone());
        assert_eq!(refused.pointer, pointer, "{expression}");
        assert!(refused.detail.contains(word), "{expression}: {}", refused.detail);
    }
    assert!(filter(json!({"all": many(MAX_FILTER_PARTS - 1)})).matches(&message()));
}

#[test]
fn ordinary_patterns_fit() {
    for pattern in [
        r"(?i)\b(urgent|outage|incident|down|failed|failure)\b",
        r"^!deploy\s+\S+\s+to\s+(staging|production)$",
        r"\bINC-\d{4,8}\b",
        r"[\w.+-]+@[\w-]+\.[\w.]+",
        r"https?://[^\s]+",
        r"(?i)grüße|straße",
    ] {
        let expression = serde_json::from_value(json!({"text": {"regex": pattern}})).expect("an expression");
        assert_eq!(Filter::new(expression).map(drop), Ok(()), "{pattern}");
    }
}

#[test]
fn a_hostile_pattern_on_a_long_text_ends() {
    let text = "a".repeat(1 << 20);
    for pattern in
        ["^(a+)+$", "(a|a)*b", "(?:a?){60}a{60}b", "[ab]*a[ab]{250}c", "(.*)*x", "(?:[a-z]*[a-z]*[a-z]*)*0", r"(x+x+)+y"]
    {
        let expression = serde_json::from_value(json!({"text": {"regex": pattern}})).expect("an expression");
        // Some do not even fit; those that do look at a bounded piece of the text, in linear time.
        if let Ok(filter) = Filter::new(expression) {
            let message = MessageFacts { text: Cow::Borrowed(&text), ..MessageFacts::default() };
            assert_eq!(filter.matches(&message), pattern == "^(a+)+$", "{pattern}");
        }
    }
}

#[test]
fn a_pattern_looks_at_a_bounded_piece_that_ends_with_a_character() {
    let text = format!("{}é and the end", "a".repeat(MAX_SEARCHED - 1));
    let message = MessageFacts { text: text.into(), ..MessageFacts::default() };
    assert!(!filter(json!({"text": {"regex": "end"}})).matches(&message));
    assert!(filter(json!({"text": {"regex": "a$"}})).matches(&message));
    assert!(filter(json!({"text": {"contains": "end"}})).matches(&message));
}

#[test]
fn a_filter_is_stored_as_it_was_written() {
    let expression = json!({"all": [{"not": {"text": {"regex": "a+"}}}, {"mention": "me"}, {"text": {"prefix": "x"}}]});
    let filter = filter(expression.clone());
    let stored = serde_json::to_value(&filter).expect("JSON");
    assert_eq!(stored, expression);
    assert_eq!(serde_json::from_value::<Filter>(stored).expect("a filter"), filter);
}

fn expressions() -> impl Strategy<Value = Expression> {
    let word = || proptest::sample::select(vec!["a", "b", "me", "chat", "ab"]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        word().prop_map(Expression::Category),
        word().prop_map(Expression::Sender),
        word().prop_map(Expression::Mention),
        word().prop_map(|text| Expression::Text(TextCondition::Contains(text))),
        word().prop_map(|text| Expression::Text(TextCondition::Prefix(text))),
        proptest::sample::select(vec!["a+", "^b", "a.b", "(?i)CHAT$"])
            .prop_map(|text| Expression::Text(TextCondition::Regex(text.to_owned()))),
    ];
    leaf.prop_recursive(3, 16, 3, |part| {
        prop_oneof![
            proptest::collection::vec(part.clone(), 1..4).prop_map(Expression::All),
            proptest::collection::vec(part.clone(), 1..4).prop_map(Expression::Any),
            part.prop_map(|part| Expression::Not(Box::new(part))),
        ]
    })
}

fn messages() -> impl Strategy<Value = MessageFacts<'static>> {
    let word = || proptest::option::of(proptest::sample::select(vec!["a", "b", "chat", "ab"]).prop_map(Cow::Borrowed));
    (word(), word(), word(), proptest::collection::vec("[ab]", 0..3), word(), "[abch t]{0,8}").prop_map(
        |(category, sender, username, mentions, me, text)| MessageFacts {
            category,
            sender,
            username,
            mentions: mentions.into_iter().map(Cow::Owned).collect(),
            me,
            text: text.into(),
        },
    )
}

proptest! {
    // Each case compiles patterns anew.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_filter_keeps_the_laws_of_logic(first in expressions(), second in expressions(), message in messages()) {
        let ask = |expression: Expression| Filter::new(expression).expect("a filter").matches(&message);
        let not = |expression: Expression| Expression::Not(Box::new(expression));
        let (a, b) = (ask(first.clone()), ask(second.clone()));
        prop_assert_eq!(ask(not(not(first.clone()))), a);
        prop_assert_eq!(ask(not(first.clone())), !a);
        prop_assert_eq!(ask(Expression::All(vec![first.clone(), second.clone()])), a && b);
        prop_assert_eq!(ask(Expression::Any(vec![first.clone(), second.clone()])), a || b);
        // De Morgan.
        let neither = Expression::All(vec![not(first.clone()), not(second.clone())]);
        prop_assert_eq!(ask(not(Expression::Any(vec![first, second]))), ask(neither));
    }

    #[test]
    fn the_failing_part_is_one_of_the_expression_and_only_named_if_it_fails(expression in expressions(), message in messages()) {
        let filter = Filter::new(expression.clone()).expect("a filter");
        let failing = filter.failing(&message);
        prop_assert_eq!(failing.is_none(), filter.matches(&message));
        if let Some(pointer) = failing {
            let written = serde_json::to_value(&expression).expect("JSON");
            prop_assert!(written.pointer(&pointer).is_some(), "{pointer} in {written}");
        }
    }

    #[test]
    fn any_text_as_a_pattern_is_taken_or_refused(text in "\\PC{0,64}", searched in "\\PC{0,200}") {
        if let Ok(filter) = Filter::new(Expression::Text(TextCondition::Regex(text))) {
            let message = MessageFacts { text: searched.into(), ..MessageFacts::default() };
            let _ = filter.matches(&message);
        }
    }
}
