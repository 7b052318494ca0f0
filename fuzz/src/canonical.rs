//! Two bodies of JSON, with a record separator (RFC 7464) between them.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use serde::de::IgnoredAny;
use tower_idempotency::FingerprintRules;

/// What holds of any two bodies.
pub fn check(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0x1e).unwrap_or(data.len());
    let (one, other) = (&data[..at], data.get(at + 1..).unwrap_or(b""));
    for body in [one, other] {
        is_read_as_serde_json_reads_it(body);
        is_the_same_however_it_is_spelled(body);
    }
    let canonical = FingerprintRules::new().canonical_json();
    assert_eq!(same(&canonical, one, other), means(one) == means(other));

    let left = ["/a", "/b/0", "/b/1", "/c/d~1e"];
    let without = FingerprintRules::new().ignore_json(left).unwrap();
    let lacks = |body| means(body).map(|value| left.iter().fold(value, |value, pointer| lacking(value, pointer)));
    assert_eq!(same(&without, one, other), lacks(one) == lacks(other));

    let only = FingerprintRules::new().only_json(left).unwrap();
    let has = |body| means(body).map(|value| left.map(|pointer| found(&value, pointer).cloned()));
    assert_eq!(same(&only, one, other), has(one) == has(other));
}

/// Both ways.
fn same(rules: &FingerprintRules, one: &[u8], other: &[u8]) -> bool {
    let sent = |body: &[u8]| {
        let request = Request::post("/pay").header("content-type", "application/json");
        request.body(Bytes::copy_from_slice(body)).unwrap()
    };
    let same = rules.same(&sent(one), &sent(other));
    assert_eq!(same, rules.same(&sent(other), &sent(one)));
    same
}

fn is_read_as_serde_json_reads_it(body: &[u8]) {
    let Ok(text) = str::from_utf8(body) else { return };
    let mut slow = Slow::new(text);
    let is_json = slow.whole().is_some();
    assert!(slow.is_deep || is_json == serde_json::from_str::<IgnoredAny>(text).is_ok(), "{text}");
}

fn is_the_same_however_it_is_spelled(body: &[u8]) {
    let rules = FingerprintRules::new().canonical_json();
    let mut spelled = String::new();
    if let Ok(value) = means(body)
        && spell(&value, &mut spelled).is_some()
    {
        assert!(same(&rules, body, spelled.as_bytes()), "{spelled}");
    }
    let spaced = [b" ", body].concat();
    assert_eq!(same(&rules, body, &spaced), means(body).is_ok(), "{}", body.escape_ascii());
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Word(&'static str),
    /// Its sign, its significant digits, and the power of ten behind them.
    Number(bool, String, i128),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

/// What a body means: a value, or else its bytes.
fn means(body: &[u8]) -> Result<Value, &[u8]> {
    let mut slow = Slow::new(str::from_utf8(body).map_err(|_| body)?);
    slow.whole().filter(|_| !slow.has_no_meaning).ok_or(body)
}

fn lacking(mut value: Value, pointer: &str) -> Value {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match found_mut(&mut value, parent) {
        Some(Value::Object(members)) => drop(members.remove(&last.replace("~1", "/"))),
        Some(Value::List(items)) => {
            if let Some(item) = last.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                *item = Value::Word("left out");
            }
        }
        _ => {}
    }
    value
}

fn found<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(value, |value, token| match value {
        Value::Object(members) => members.get(&token.replace("~1", "/")),
        Value::List(items) => items.get(token.parse::<usize>().ok()?),
        _ => None,
    })
}

fn found_mut<'a>(value: &'a mut Value, pointer: &str) -> Option<&'a mut Value> {
    pointer.split('/').skip(1).try_fold(value, |value, token| match value {
        Value::Object(members) => members.get_mut(token),
        Value::List(items) => items.get_mut(token.parse::<usize>().ok()?),
        _ => None,
    })
}

/// In a spelling that has little in common with the canonical one. `None` where a power of ten
/// is next to what is beyond all measure.
fn spell(value: &Value, spelled: &mut String) -> Option<()> {
    match value {
        Value::Word(word) => spelled.push_str(word),
        Value::Number(_, digits, _) if digits.is_empty() => spelled.push_str("-0.00E+7"),
        Value::Number(is_negative, digits, power) => {
            let power = i64::try_from(power - 1).ok()?;
            let sign = if *is_negative { "-" } else { "" };
            spelled.push_str(&format!("{sign}{digits}0.00E{power:+}"));
        }
        Value::Text(text) => {
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            spelled.extend(["\"", &units, "\""]);
        }
        Value::List(items) => {
            spelled.push('[');
            for (n, item) in items.iter().enumerate() {
                spelled.push_str(if n > 0 { " , " } else { "\t" });
                spell(item, spelled)?;
            }
            spelled.push(']');
        }
        Value::Object(members) => {
            spelled.push('{');
            for (n, (name, value)) in members.iter().rev().enumerate() {
                spelled.push_str(if n > 0 { "\n," } else { " " });
                spell(&Value::Text(name.clone()), spelled)?;
                spelled.push_str(" :\r\n");
                spell(value, spelled)?;
            }
            spelled.push('}');
        }
    }
    Some(())
}

/// Reads JSON by RFC 8259, character by character.
struct Slow {
    text: Vec<char>,
    at: usize,
    /// Members of one name, strings that are no text, depth, or a power beyond all measure.
    has_no_meaning: bool,
    /// It was not read to its end.
    is_deep: bool,
}

impl Slow {
    fn new(text: &str) -> Self {
        Self { text: text.chars().collect(), at: 0, has_no_meaning: false, is_deep: false }
    }

    fn whole(&mut self) -> Option<Value> {
        let value = self.value(0)?;
        (self.peek().is_none()).then_some(value)
    }

    fn peek(&mut self) -> Option<char> {
        while matches!(self.text.get(self.at), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn takes(&mut self, wanted: char) -> bool {
        let is_it = self.peek() == Some(wanted);
        self.at += usize::from(is_it);
        is_it
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > 500 {
            self.is_deep = true;
            return None;
        }
        match self.peek()? {
            '"' => self.string().map(Value::Text),
            '[' => self.list(depth + 1),
            '{' => self.object(depth + 1),
            '-' | '0'..='9' => self.number(),
            _ => ["true", "false", "null"].into_iter().find_map(|word| {
                let is_it = self.text[self.at..].iter().take(word.len()).collect::<String>() == word;
                self.at += if is_it { word.len() } else { 0 };
                is_it.then_some(Value::Word(word))
            }),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.has_no_meaning |= depth > 128;
        let mut items = Vec::new();
        self.takes('[');
        if self.takes(']') {
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            if !self.takes(',') {
                return self.takes(']').then_some(Value::List(items));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.has_no_meaning |= depth > 128;
        let mut members = BTreeMap::new();
        self.takes('{');
        if self.takes('}') {
            return Some(Value::Object(members));
        }
        loop {
            let name = if self.peek()? == '"' { self.string()? } else { return None };
            let value = if self.takes(':') { self.value(depth)? } else { return None };
            self.has_no_meaning |= members.insert(name, value).is_some();
            if !self.takes(',') {
                return self.takes('}').then_some(Value::Object(members));
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let mut units = Vec::new();
        loop {
            self.at += 1;
            let unit = match *self.text.get(self.at)? {
                '"' => break,
                '\0'..' ' => return None,
                '\\' => self.escape()?,
                other => {
                    units.extend(other.encode_utf16(&mut [0; 2]).iter());
                    continue;
                }
            };
            units.push(unit);
        }
        self.at += 1;
        Some(String::from_utf16(&units).unwrap_or_else(|_| {
            self.has_no_meaning = true;
            String::new()
        }))
    }

    fn escape(&mut self) -> Option<u16> {
        self.at += 1;
        let escaped = match *self.text.get(self.at)? {
            same @ ('"' | '\\' | '/') => same,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let digits: String = self.text.get(self.at + 1..self.at + 5)?.iter().collect();
                self.at += 4;
                let are_digits = digits.chars().all(|digit| digit.is_ascii_hexdigit());
                return are_digits.then(|| u16::from_str_radix(&digits, 16).ok()).flatten();
            }
            _ => return None,
        };
        u16::try_from(u32::from(escaped)).ok()
    }

    fn digits(&mut self) -> String {
        let digits: String = self.text[self.at..].iter().take_while(|digit| digit.is_ascii_digit()).collect();
        self.at += digits.len();
        digits
    }

    fn is_next(&mut self, wanted: &[char]) -> bool {
        let is_it = self.text.get(self.at).is_some_and(|next| wanted.contains(next));
        self.at += usize::from(is_it);
        is_it
    }

    fn number(&mut self) -> Option<Value> {
        let is_negative = self.is_next(&['-']);
        let whole = self.digits();
        if whole.is_empty() || (whole.starts_with('0') && whole != "0") {
            return None;
        }
        let mut fraction = String::new();
        if self.is_next(&['.']) {
            fraction = self.digits();
            if fraction.is_empty() {
                return None;
            }
        }
        let mut power = Some(0);
        if self.is_next(&['e', 'E']) {
            let is_below_one = self.text.get(self.at) == Some(&'-');
            self.is_next(&['+', '-']);
            let digits = self.digits();
            if digits.is_empty() {
                return None;
            }
            let power_is = digits.parse::<i128>().ok().map(|power| if is_below_one { -power } else { power });
            power = power_is.filter(|power| i64::try_from(*power).is_ok());
        }
        let all = whole + &fraction;
        let behind = all.len() - all.trim_end_matches('0').len();
        let digits = all.trim_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Value::Number(false, digits, 0));
        }
        self.has_no_meaning |= power.is_none();
        let power = power.unwrap_or_default() + behind as i128 - fraction.len() as i128;
        Some(Value::Number(is_negative, digits, power))
    }
}
