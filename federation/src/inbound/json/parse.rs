//! Reading JSON text.
//! Source: <https://www.rfc-editor.org/rfc/rfc8259>

use super::{INTEGER_MAX, Json, Object};
use crate::limits::{JSON_DEPTH_MAX, JSON_NUMBER_BYTES_MAX, JSON_VALUES_MAX};

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("not JSON")]
    Syntax,
    #[error("the body is not an object")]
    NotAnObject,
    #[error("a key stands twice")]
    Twice,
    #[error("too many values")]
    TooLarge,
    #[error("nested too deeply")]
    TooDeep,
}

/// Reads a JSON object.
pub(crate) fn parse(bytes: &[u8]) -> Result<Object, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|_not_utf8| ParseError::Syntax)?;
    let mut reader = Reader { text, at: 0, values: 0 };
    reader.blanks();
    let value = reader.value(0)?;
    reader.blanks();
    if reader.at != text.len() {
        return Err(ParseError::Syntax);
    }
    match value {
        Json::Object(object) => Ok(object),
        _ => Err(ParseError::NotAnObject),
    }
}

struct Reader<'a> {
    text: &'a str,
    /// Always at the border of a character.
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes over one ASCII character if it comes next.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, word: &str) -> Result<(), ParseError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(ParseError::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, ParseError> {
        if depth > JSON_DEPTH_MAX {
            return Err(ParseError::TooDeep);
        }
        self.values += 1;
        if self.values > JSON_VALUES_MAX {
            return Err(ParseError::TooLarge);
        }
        match self.peek().ok_or(ParseError::Syntax)? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => Ok(Json::Text(self.string()?)),
            b't' => self.expect("true").map(|()| Json::Bool(true)),
            b'f' => self.expect("false").map(|()| Json::Bool(false)),
            b'n' => self.expect("null").map(|()| Json::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, ParseError> {
        self.at += 1;
        let mut members = Vec::new();
        self.blanks();
        if !self.takes(b'}') {
            loop {
                self.blanks();
                if self.peek() != Some(b'"') {
                    return Err(ParseError::Syntax);
                }
                let name = self.string()?;
                self.blanks();
                self.expect(":")?;
                self.blanks();
                members.push((name, self.value(depth + 1)?));
                self.blanks();
                if self.takes(b'}') {
                    break;
                }
                self.expect(",")?;
            }
        }
        Object::new(members).map(Json::Object).ok_or(ParseError::Twice)
    }

    fn list(&mut self, depth: usize) -> Result<Json, ParseError> {
        self.at += 1;
        let mut values = Vec::new();
        self.blanks();
        if !self.takes(b']') {
            loop {
                self.blanks();
                values.push(self.value(depth + 1)?);
                self.blanks();
                if self.takes(b']') {
                    break;
                }
                self.expect(",")?;
            }
        }
        Ok(Json::List(values.into_boxed_slice()))
    }

    fn string(&mut self) -> Result<Box<str>, ParseError> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain =
                rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ').ok_or(ParseError::Syntax)?;
            string.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            if self.takes(b'"') {
                return Ok(string.into_boxed_str());
            }
            self.expect("\\")?;
            string.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Result<char, ParseError> {
        let byte = self.peek().filter(u8::is_ascii).ok_or(ParseError::Syntax)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(ParseError::Syntax),
        })
    }

    /// The rest of `\uXXXX`, and of the low surrogate that has to follow a high one.
    fn unicode(&mut self) -> Result<char, ParseError> {
        let mut code = self.four_digits()?;
        if (0xD800..0xDC00).contains(&code) {
            self.expect("\\u")?;
            let low = self.four_digits()?;
            if !(0xDC00..0xE000).contains(&low) {
                return Err(ParseError::Syntax);
            }
            code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        char::from_u32(code).ok_or(ParseError::Syntax)
    }

    fn four_digits(&mut self) -> Result<u32, ParseError> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(ParseError::Syntax)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseError::Syntax);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_not_hex| ParseError::Syntax)
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Result<Json, ParseError> {
        let from = self.at;
        self.takes(b'-');
        let starts_with_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        let mut is_integer = true;
        let mut is_good = whole == 1 || (whole > 1 && !starts_with_zero);
        if self.takes(b'.') {
            is_integer = false;
            is_good &= self.digits() > 0;
        }
        if self.takes(b'e') || self.takes(b'E') {
            is_integer = false;
            let _is_signed = self.takes(b'+') || self.takes(b'-');
            is_good &= self.digits() > 0;
        }
        let text: &'a str = self.text.get(from..self.at).unwrap_or_default();
        if !is_good || text.len() > JSON_NUMBER_BYTES_MAX {
            return Err(ParseError::Syntax);
        }
        if !is_integer {
            return python_float(text).map(Json::OtherNumber).ok_or(ParseError::Syntax);
        }
        Ok(match text.parse::<i64>() {
            Ok(integer) if (-INTEGER_MAX..=INTEGER_MAX).contains(&integer) => Json::Integer(integer),
            _ => Json::OtherNumber(text.into()),
        })
    }
}

/// A float as Python's `repr` writes it: the shortest digits that give the same float, with an exponent below 10^-4 and from
/// 10^16 on. `None` for what Python reads as infinite and refuses to write.
fn python_float(text: &str) -> Option<Box<str>> {
    let float: f64 = text.parse().ok().filter(|float: &f64| float.is_finite())?;
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if float == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{float}");
        let point = if plain.contains('.') { "" } else { ".0" };
        return Some(format!("{plain}{point}").into());
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    Some(format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2S 5 the handler sees the value that was verified. S2S 6 parsed once.
    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let cases: [(&[u8], ParseError); 22] = [
            (b"", ParseError::Syntax),
            (b"[]", ParseError::NotAnObject),
            (b"null", ParseError::NotAnObject),
            (b"{} {}", ParseError::Syntax),
            (b"{\"a\":1,\"a\":1}", ParseError::Twice),
            (b"{\"a\":1,\"\\u0061\":1}", ParseError::Twice),
            (b"{\"x\":{\"a\":1,\"b\":2,\"a\":3}}", ParseError::Twice),
            (b"{\"a\":\"\\ud800\"}", ParseError::Syntax),
            (b"{\"a\":\"\\udc00\"}", ParseError::Syntax),
            (b"{\"a\":\"\\ud800\\u0041\"}", ParseError::Syntax),
            (b"{\"a\":\"\xff\"}", ParseError::Syntax),
            (b"{\"a\":\"\n\"}", ParseError::Syntax),
            (b"{\"a\":NaN}", ParseError::Syntax),
            (b"{\"a\":Infinity}", ParseError::Syntax),
            (b"{\"a\":1e400}", ParseError::Syntax),
            (b"{\"a\":01}", ParseError::Syntax),
            (b"{\"a\":1.}", ParseError::Syntax),
            (b"{\"a\":+1}", ParseError::Syntax),
            (b"{\"a\":1,}", ParseError::Syntax),
            (b"{\"a\":[1,]}", ParseError::Syntax),
            (b"{\"a\":\"\\u12\xc3\xa4\"}", ParseError::Syntax),
            (b"\xef\xbb\xbf{}", ParseError::Syntax),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse(bytes), Err(error), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn escapes_are_read() {
        let object = parse(br#" { "a" : "\ud83d\ude00\/\n\u00e4" } "#).unwrap();
        assert_eq!(object.text("a"), Some("\u{1f600}/\n\u{e4}"));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(parse(nested(JSON_DEPTH_MAX + 1).as_bytes()), Err(ParseError::TooDeep));
        assert_eq!(parse(nested(1_000_000).as_bytes()), Err(ParseError::TooDeep));
        let many = format!("{{\"a\":[{}0]}}", "0,".repeat(JSON_VALUES_MAX));
        assert_eq!(parse(many.as_bytes()), Err(ParseError::TooLarge));
    }
}
