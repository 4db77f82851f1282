//! Query pairs, as they stand in the URL and in the CONNECT packet of Engine.IO 3.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything outside `A-Za-z0-9-_.!~*'()`. A comma must not stay raw: it would end the namespace.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Writes pairs as `name=value&name=value`, each side percent-encoded.
pub fn encode_query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(name, VALUE));
        query.push('=');
        query.extend(utf8_percent_encode(value, VALUE));
    }
    query
}

/// Reads the pairs of a query; a pair without `=` has an empty value, bytes that are no UTF-8 are replaced.
pub fn decode_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_can_end_the_namespace_or_the_pair() {
        let query = encode_query([("token", "a,b&c=d?e/f g+h%é"), ("ok", "A-z0_.!~*'()")]);
        assert_eq!(query, "token=a%2Cb%26c%3Dd%3Fe%2Ff%20g%2Bh%25%C3%A9&ok=A-z0_.!~*'()");
        assert_eq!(
            decode_query(&query),
            [("token".to_owned(), "a,b&c=d?e/f g+h%é".to_owned()), ("ok".to_owned(), "A-z0_.!~*'()".to_owned())]
        );
    }

    #[test]
    fn odd_queries_are_read_leniently() {
        assert_eq!(decode_query(""), []);
        assert_eq!(decode_query("&&"), []);
        assert_eq!(decode_query("a&b=c=d"), [("a".to_owned(), String::new()), ("b".to_owned(), "c=d".to_owned())]);
    }
}
