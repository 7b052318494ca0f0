//! The parts of a multipart body, whatever stands between them.

use memchr::memmem;

/// What stands before the first part, the parts with their headers, and what follows
/// the last one (RFC 2046 §5.1.1). Together with the boundary they are the body again.
///
/// `None` if anything is odd, so that receivers may not agree on what the parts are:
/// then the bytes count.
pub(crate) fn split<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<&'a [u8]>> {
    if !is_boundary(boundary) {
        return None;
    }
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let finder = memmem::Finder::new(&delimiter);
    let find = |bytes: &[u8]| finder.find(bytes);
    // At the very beginning its line break may be missing.
    let first = if body.starts_with(&delimiter[2..]) { 0 } else { find(body)? + 2 };
    let mut pieces = vec![&body[..first]];
    let mut rest = &body[first + delimiter.len() - 2..];
    let epilogue = loop {
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            break epilogue;
        }
        let part = rest.strip_prefix(b"\r\n")?;
        let end = find(part)?;
        pieces.push(&part[..end]);
        rest = &part[end + delimiter.len()..];
    };
    pieces.push(epilogue);
    // Some receivers also take a boundary that has only a line feed before it.
    let finder = memmem::Finder::new(boundary);
    let is_within = |piece: &&[u8]| finder.find(piece).is_some();
    let is_plain = pieces.len() > 2 && (epilogue.is_empty() || epilogue.starts_with(b"\r\n"));
    (is_plain && !pieces.iter().any(is_within)).then_some(pieces)
}

/// As RFC 2046 §5.1.1 allows.
fn is_boundary(boundary: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=70).contains(&boundary.len()) && !boundary.ends_with(' ') && boundary.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[track_caller]
    fn is(body: &str, expected: &[&str]) {
        let expected: Vec<_> = expected.iter().map(|piece| piece.as_bytes()).collect();
        assert_eq!(split(body.as_bytes(), "b").as_ref(), Some(&expected), "{body:?}");
    }

    #[test]
    fn a_body_is_its_pieces() {
        is("--b\r\nx: y\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", &["", "x: y\r\n\r\none", "\r\ntwo", "\r\n"]);
        is("--b\r\n\r\n\r\n--b--", &["", "\r\n", ""]);
        is("\r\n--b\r\none\r\n--b--\r\nmore", &["\r\n", "one", "\r\nmore"]);
        is("hello\r\n--b\r\none\r\n--b--", &["hello\r\n", "one", ""]);
    }

    #[test]
    fn what_is_odd_has_no_pieces() {
        for body in [
            "",
            "--b--",
            "--b",
            "--b\r\none",
            "--b\r\none\r\n--b",
            "--b\r\none\r\n--b-",
            "--b\r\n--b--",
            "--b\none\n--b--\n",
            "--b \r\none\r\n--b--",
            "--b\r\none\r\n--b--x",
            "--b\r\none\n--b\ntwo\r\n--b--",
            "--b\r\none\r\n--bx\r\ntwo\r\n--b--",
            "--b\r\none\r\n--b--\r\n--b--",
            "x--b\r\none\r\n",
        ] {
            assert_eq!(split(body.as_bytes(), "b"), None, "{body:?}");
        }
        let long = "b".repeat(71);
        for boundary in ["", "b ", "b;", "\u{e9}", &long] {
            let body = format!("--{boundary}\r\n\r\none\r\n--{boundary}--");
            assert_eq!(split(body.as_bytes(), boundary), None, "{boundary:?}");
        }
    }
}
