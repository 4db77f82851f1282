//! What the elements of HTML do to the lines of a text.

/// What an element does to the lines, as far as it is known to do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// Stands apart from what is around it: by so many line ends.
    Block(usize),
    Preformatted,
    Bullets,
    Numbers,
    Entry,
    Quotation,
    Row,
    Cell,
    Break,
    Rule,
    Image,
    Link,
    Mention,
}

/// The elements that do something, without those that only change how words look.
const ELEMENTS: [(&str, Element); 45] = [
    ("br", Element::Break),
    ("p", Element::Block(2)),
    ("a", Element::Link),
    ("mention", Element::Mention),
    ("li", Element::Entry),
    ("ul", Element::Bullets),
    ("ol", Element::Numbers),
    ("div", Element::Block(1)),
    ("pre", Element::Preformatted),
    ("blockquote", Element::Quotation),
    ("img", Element::Image),
    ("h1", Element::Block(2)),
    ("h2", Element::Block(2)),
    ("h3", Element::Block(2)),
    ("h4", Element::Block(2)),
    ("h5", Element::Block(2)),
    ("h6", Element::Block(2)),
    ("hr", Element::Rule),
    ("tr", Element::Row),
    ("td", Element::Cell),
    ("th", Element::Cell),
    ("table", Element::Block(2)),
    ("dl", Element::Block(2)),
    ("figure", Element::Block(2)),
    ("dt", Element::Block(1)),
    ("dd", Element::Block(1)),
    ("thead", Element::Block(1)),
    ("tbody", Element::Block(1)),
    ("tfoot", Element::Block(1)),
    ("caption", Element::Block(1)),
    ("figcaption", Element::Block(1)),
    ("details", Element::Block(1)),
    ("summary", Element::Block(1)),
    ("section", Element::Block(1)),
    ("article", Element::Block(1)),
    ("header", Element::Block(1)),
    ("footer", Element::Block(1)),
    ("aside", Element::Block(1)),
    ("nav", Element::Block(1)),
    ("main", Element::Block(1)),
    ("address", Element::Block(1)),
    ("form", Element::Block(1)),
    ("center", Element::Block(1)),
    ("body", Element::Block(1)),
    ("html", Element::Block(1)),
];

impl Element {
    pub(super) fn of(name: &str) -> Option<Self> {
        ELEMENTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, element)| *element)
    }
}
