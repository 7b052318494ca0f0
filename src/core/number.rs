//! Numbers of JSON by their exact value.

/// A number as JSON writes it.
pub(super) struct Number<'a> {
    text: &'a [u8],
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// With its sign, without the `e`.
    exponent: Option<&'a [u8]>,
}

impl<'a> Number<'a> {
    /// The one that `text` begins with (RFC 8259 §6).
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        let (is_negative, unsigned) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let (whole, rest) = digits(unsigned)?;
        if whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest)?,
            _ => (b"".as_slice(), rest),
        };
        let (exponent, rest) = match rest {
            [b'e' | b'E', rest @ ..] => {
                let unsigned = rest.strip_prefix(b"-").or_else(|| rest.strip_prefix(b"+")).unwrap_or(rest);
                let (_, behind) = digits(unsigned)?;
                (Some(&rest[..rest.len() - behind.len()]), behind)
            }
            _ => (None, rest),
        };
        let text = &text[..text.len() - rest.len()];
        Some(Self { text, is_negative, whole, fraction, exponent })
    }

    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// Writes its significant digits, and the power of ten behind them. `None` if that power
    /// is beyond all measure.
    pub(super) fn write(&self, written: &mut Vec<u8>) -> Option<()> {
        // Most are whole, and have no zero at their end.
        if self.fraction.is_empty() && self.exponent.is_none() && !self.whole.ends_with(b"0") {
            written.extend_from_slice(self.text);
            return Some(());
        }
        let begin = written.len();
        if self.is_negative {
            written.push(b'-');
        }
        let first = written.len();
        match self.whole {
            b"0" => written.extend_from_slice(without_zeros_before(self.fraction)),
            whole => [whole, self.fraction].iter().for_each(|digits| written.extend_from_slice(digits)),
        }
        let zeros = written[first..].iter().rev().take_while(|digit| **digit == b'0').count();
        written.truncate(written.len() - zeros);
        if written.len() == first {
            // There is one zero: RFC 8785 has no negative one either.
            written.truncate(begin);
            written.push(b'0');
            return Some(());
        }
        let exponent = str::from_utf8(self.exponent.unwrap_or(b"0")).ok()?.parse::<i64>().ok()?;
        let exponent = i128::from(exponent) + zeros as i128 - self.fraction.len() as i128;
        if exponent != 0 {
            written.push(b'e');
            serde_json::to_writer(written, &exponent).ok()?;
        }
        Some(())
    }
}

fn without_zeros_before(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

/// At least one, and what follows them.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}
