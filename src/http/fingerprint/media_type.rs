//! How a body is to be read, in one spelling.

/// A media type (RFC 9110 §8.3.1) in lower case, without its `charset`.
pub(crate) struct MediaType<'a> {
    /// Without the boundary, too.
    pub(crate) text: String,
    /// What parts a multipart body.
    pub(crate) boundary: Option<&'a str>,
}

impl<'a> MediaType<'a> {
    /// `None` if anything is odd about it: then its bytes count.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok().filter(|line| line.is_ascii() && !line.contains('\\'))?;
        let mut parameters = Parameters(line);
        let essence = parameters.next()?;
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut parsed = Self { text: essence.to_ascii_lowercase(), boundary: None };
        let is_multipart = parsed.text.starts_with("multipart/");
        for parameter in parameters.filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=')?;
            if !is_token(name) || !is_value(value) {
                return None;
            }
            let name = name.to_ascii_lowercase();
            if is_multipart && name == "boundary" && parsed.boundary.is_none() {
                parsed.boundary = Some(value.trim_matches('"'));
            } else if is_multipart && parameter.to_ascii_lowercase().contains("boundary") {
                // With a second one, `boundary*` (RFC 2231), or one within another parameter, for
                // which some receivers take it, it is not known which one counts.
                return None;
            } else if name != "charset" {
                parsed.text.extend([";", &name, "=", value]);
            }
        }
        Some(parsed)
    }

    pub(crate) fn is_json(&self) -> bool {
        let essence = self.text.split(';').next().unwrap_or_default();
        essence == "application/json" || essence.ends_with("+json")
    }
}

/// Between semicolons that are not quoted.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let mut is_quoted = false;
        let end = self.0.bytes().position(|byte| {
            is_quoted ^= byte == b'"';
            byte == b';' && !is_quoted
        });
        let (next, rest) = end.map_or((self.0, ""), |end| (&self.0[..end], &self.0[end + 1..]));
        self.0 = rest;
        Some(next.trim_matches([' ', '\t']))
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// A token, or a string in quotes in which none is escaped.
fn is_value(text: &str) -> bool {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    is_token(text) || quoted.is_some_and(|text| !text.contains('"'))
}

#[cfg(test)]
mod tests {
    use super::MediaType;

    #[test]
    fn one_type_has_one_spelling_and_what_is_odd_has_none() {
        for (line, expected) in [
            ("application/json", Some("application/json")),
            ("Application/JSON ; Charset=UTF-8", Some("application/json")),
            ("application/json;charset=\"utf-8\";;", Some("application/json")),
            ("text/plain; Version=A; charset=x", Some("text/plain;version=A")),
            ("text/x; a=\"; charset=b\"", Some("text/x;a=\"; charset=b\"")),
            ("multipart/form-data; boundary=x; a=b", Some("multipart/form-data;a=b")),
            ("text/plain; boundary=x", Some("text/plain;boundary=x")),
            ("multipart/mixed; boundary=x; boundary=y", None),
            ("multipart/mixed; boundary*=x; boundary=y", None),
            ("multipart/mixed; boundary=x; X-Boundary=y", None),
            ("multipart/mixed; boundary=x; charset=\"boundary=y\"", None),
            ("multipart/mixed; Boundary=\"a Boundary\"", Some("multipart/mixed")),
            ("json", None),
            ("text/plain; charset", None),
            ("text/plain; a=\"b", None),
            ("text/plain; a=\"\\\"\"", None),
            ("text/pl ain", None),
            ("text/\u{e9}", None),
            ("", None),
        ] {
            let found = MediaType::parse(line.as_bytes()).map(|found| found.text);
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}
