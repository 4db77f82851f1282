//! What all targets expect of HTML that goes to Spaces.

/// The elements that Spaces shows.
const ELEMENTS: [&str; 25] = [
    "a",
    "b",
    "blockquote",
    "br",
    "code",
    "del",
    "div",
    "em",
    "h1",
    "h2",
    "h3",
    "i",
    "li",
    "mention",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "u",
    "ul",
];

const SCHEMES: [&str; 4] = ["http:", "https:", "mailto:", "tel:"];

/// Fails unless each `<` of `html` outside of attributes begins a tag of the list, with attributes of the list and addresses of harmless
/// schemes.
pub fn assert_safe(html: &str) {
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let tag = rest[at + 1..].trim_start_matches('/');
        let (name, mut inside) = tag.split_at(tag.find([' ', '>']).unwrap_or_else(|| panic!("an open tag: {html}")));
        assert!(ELEMENTS.contains(&name), "<{name}> in {html}");
        while let Some(attributes) = inside.strip_prefix(' ') {
            let (attribute, value) = attributes.split_once("=\"").unwrap_or_else(|| panic!("an odd attribute: {html}"));
            let (value, behind) = value.split_once('"').unwrap_or_else(|| panic!("an open attribute: {html}"));
            match (name, attribute) {
                ("a", "href") => {
                    let lower = value.to_ascii_lowercase();
                    assert!(SCHEMES.iter().any(|scheme| lower.starts_with(scheme)), "{value} in {html}");
                }
                ("a", "title") | ("mention", "id" | "type" | "value") => {}
                _ => panic!("{attribute} of <{name}> in {html}"),
            }
            inside = behind;
        }
        rest = inside.strip_prefix('>').unwrap_or_else(|| panic!("an odd tag: {html}"));
    }
}
