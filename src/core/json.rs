//! JSON in its canonical spelling, written in one pass over its text.

use super::number::Number;

/// Nested deeper, a text has no canonical spelling.
const DEEPEST: usize = 128;

/// The canonical spelling of a text, see [`canonical`](super::canonical::canonical). `None`
/// if the text is no JSON (RFC 8259), is nested too deep, has two members of one name, or a
/// string that is no text.
pub(crate) fn spelled(json: &[u8]) -> Option<Vec<u8>> {
    // Then each string is text, too: it ends at a quote.
    str::from_utf8(json).ok()?;
    let mut writer = Writer { text: json, at: 0, written: Vec::with_capacity(json.len()), members: Vec::new() };
    writer.value(0)?;
    writer.next().is_none().then_some(writer.written)
}

/// A string with the escapes of RFC 8785 §3.2.2.2, in its quotes.
pub(crate) fn write_string(text: &str, written: &mut Vec<u8>) {
    // Writing text to memory does not fail.
    let _ = serde_json::to_writer(written, text);
}

/// What does not stand for itself in a string.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let mut byte = 0;
    while byte < b' ' as usize {
        stops[byte] = true;
        byte += 1;
    }
    stops[b'"' as usize] = true;
    stops[b'\\' as usize] = true;
    stops
};

struct Writer<'a> {
    text: &'a [u8],
    at: usize,
    written: Vec<u8>,
    /// Those of all objects that are not at their end.
    members: Vec<Member>,
}

/// Where a member of an object is written.
#[derive(Clone, Copy)]
struct Member {
    begin: usize,
    name_end: usize,
    end: usize,
}

impl Member {
    /// As it is written, without its quotes.
    fn name<'a>(&self, written: &'a [u8]) -> &'a [u8] {
        &written[self.begin + 1..self.name_end - 1]
    }
}

impl Writer<'_> {
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.next()? {
            b'"' => self.string(),
            b'{' if depth < DEEPEST => self.object(depth + 1),
            b'[' if depth < DEEPEST => self.list(depth + 1),
            b'-' | b'0'..=b'9' => {
                let number = Number::read(&self.text[self.at..])?;
                self.at += number.len();
                number.write(&mut self.written)
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let word = [b"true".as_slice(), b"false", b"null"].into_iter().find(|word| rest.starts_with(word))?;
        self.at += word.len();
        self.written.extend_from_slice(word);
        Some(())
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        self.copy(b'[')?;
        if self.next()? == b']' {
            return self.copy(b']');
        }
        loop {
            self.value(depth)?;
            if self.copy(b',').is_none() {
                return self.copy(b']');
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.copy(b'{')?;
        if self.next()? == b'}' {
            return self.copy(b'}');
        }
        let first = self.members.len();
        loop {
            self.member(depth)?;
            if self.copy(b',').is_none() {
                self.sort(first)?;
                self.members.truncate(first);
                return self.copy(b'}');
            }
        }
    }

    fn member(&mut self, depth: usize) -> Option<()> {
        let begin = self.written.len();
        if self.next()? != b'"' {
            return None;
        }
        self.string()?;
        let name_end = self.written.len();
        self.copy(b':')?;
        self.value(depth)?;
        self.members.push(Member { begin, name_end, end: self.written.len() });
        Some(())
    }

    /// Brings the members from this one on into the order of RFC 8785 §3.2.3. `None` if two
    /// have one name.
    fn sort(&mut self, first: usize) -> Option<()> {
        let (written, members) = (&self.written, &mut self.members[first..]);
        if members.iter().any(|member| is_out_of_line(member.name(written))) {
            members.sort_by_cached_key(|member| code_units(&written[member.begin..member.name_end]));
        } else if members.is_sorted_by(|one, next| one.name(written) < next.name(written)) {
            // Most are written by the same program, in the same order.
            return Some(());
        } else {
            members.sort_unstable_by(|one, other| one.name(written).cmp(other.name(written)));
        }
        if members.windows(2).any(|pair| pair[0].name(written) == pair[1].name(written)) {
            return None;
        }
        let begin = members.iter().map(|member| member.begin).min()?;
        let mut sorted = Vec::with_capacity(written.len() - begin);
        for (n, member) in members.iter().enumerate() {
            if n > 0 {
                sorted.push(b',');
            }
            sorted.extend_from_slice(&written[member.begin..member.end]);
        }
        self.written.truncate(begin);
        self.written.extend_from_slice(&sorted);
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let (begin, mut is_escaped) = (self.at, false);
        self.at += 1;
        loop {
            self.at += self.text.get(self.at..)?.iter().position(|byte| STOPS[usize::from(*byte)])?;
            match self.text[self.at] {
                b'"' => break,
                b'\\' => is_escaped = true,
                // A control character.
                _ => return None,
            }
            // What is escaped is no end.
            self.at += 2;
        }
        self.at += 1;
        let quoted = &self.text[begin..self.at];
        if is_escaped {
            write_string(&serde_json::from_slice::<String>(quoted).ok()?, &mut self.written);
        } else {
            // What may stand there without an escape is written without one.
            self.written.extend_from_slice(quoted);
        }
        Some(())
    }

    /// Passes over a byte of the grammar, if it comes next.
    fn copy(&mut self, byte: u8) -> Option<()> {
        if self.next()? != byte {
            return None;
        }
        self.at += 1;
        self.written.push(byte);
        Some(())
    }

    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }
}

/// Whether a written name may have another place by its code units than by its bytes: it
/// has an escape, or what UTF-8 has before surrogates, and UTF-16 behind them.
fn is_out_of_line(name: &[u8]) -> bool {
    name.iter().any(|byte| *byte == b'\\' || *byte >= 0xee)
}

/// Of a string in its quotes: what RFC 8785 §3.2.3 sorts by.
fn code_units(quoted: &[u8]) -> Vec<u16> {
    let name: String = serde_json::from_slice(quoted).unwrap_or_default();
    name.encode_utf16().collect()
}
