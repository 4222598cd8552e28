//! Taking a large JSON answer apart while it comes: the members of a few lists one by one, a few other fields, the rest passed
//! over. Never in memory: the text as a whole. Each part is then read by serde_json, so that one parser decides what JSON is.
//!
//! May import: serde_json, `error`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::error::FederationError;

const NOT_JSON: FederationError = FederationError::BadAnswer("not a JSON object");

/// What an answer was taken apart to.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    lists: BTreeMap<&'static str, Vec<Box<RawValue>>>,
    fields: BTreeMap<&'static str, Box<RawValue>>,
}

impl Parts {
    /// The members of a list; `None` when the answer has no such field.
    pub(crate) fn list(&mut self, name: &str) -> Option<Vec<Box<RawValue>>> {
        self.lists.remove(name)
    }

    /// A field.
    pub(crate) fn field(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.fields.remove(name)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Next {
    Object,
    NameOrEnd,
    Name,
    Colon,
    Value,
    CommaOrEnd,
    ElementOrEnd,
    Element,
    CommaOrListEnd,
    Nothing,
}

#[derive(Clone, Copy)]
enum Keep {
    Name,
    Field(&'static str),
    Element(&'static str),
    Nothing,
}

/// A name or value of which the end has not come yet.
struct Item {
    keep: Keep,
    text: Vec<u8>,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

enum Fed {
    More,
    /// The byte was its last one.
    Ends,
    /// The byte comes after it.
    Ended,
}

/// Takes answers apart.
pub(crate) struct Splitter {
    names: (&'static [&'static str], &'static [&'static str]),
    item_bytes_max: usize,
    items_max: usize,
    next: Next,
    name: Keep,
    item: Option<Item>,
    items: usize,
    parts: Parts,
}

impl Splitter {
    /// Keeps the members of these lists, at most so many in all, and these fields; each of at most so many bytes.
    pub(crate) fn new(
        lists: &'static [&'static str],
        fields: &'static [&'static str],
        items_max: usize,
        item_bytes_max: usize,
    ) -> Self {
        Self {
            names: (lists, fields),
            item_bytes_max,
            items_max,
            next: Next::Object,
            name: Keep::Nothing,
            item: None,
            items: 0,
            parts: Parts::default(),
        }
    }

    /// Takes the next piece of the text.
    ///
    /// # Errors
    /// When it is no JSON object, a kept field comes twice, or a bound is passed.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), FederationError> {
        for byte in bytes {
            self.take(*byte)?;
        }
        Ok(())
    }

    /// What has come of a list since the last time.
    pub(super) fn drain(&mut self, name: &str) -> Vec<Box<RawValue>> {
        self.parts.lists.get_mut(name).map(std::mem::take).unwrap_or_default()
    }

    /// What the text held.
    ///
    /// # Errors
    /// When its end has not come.
    pub(crate) fn finish(self) -> Result<Parts, FederationError> {
        if self.next == Next::Nothing && self.item.is_none() { Ok(self.parts) } else { Err(NOT_JSON) }
    }

    fn take(&mut self, byte: u8) -> Result<(), FederationError> {
        if let Some(item) = &mut self.item {
            let fed = item.feed(byte);
            if !matches!(fed, Fed::Ended) && !matches!(item.keep, Keep::Nothing) {
                if item.text.len() >= self.item_bytes_max {
                    return Err(FederationError::TooLarge);
                }
                item.text.push(byte);
            }
            match fed {
                Fed::More => return Ok(()),
                Fed::Ends => return self.end_item(),
                Fed::Ended => self.end_item()?,
            }
        }
        if !byte.is_ascii_whitespace() { self.structure(byte) } else { Ok(()) }
    }

    fn structure(&mut self, byte: u8) -> Result<(), FederationError> {
        self.next = match (self.next, byte) {
            (Next::Object, b'{') => Next::NameOrEnd,
            (Next::NameOrEnd | Next::CommaOrEnd, b'}') => Next::Nothing,
            (Next::CommaOrEnd, b',') => Next::Name,
            (Next::NameOrEnd | Next::Name, b'"') => {
                self.begin(Keep::Name, byte);
                Next::Colon
            }
            (Next::Colon, b':') => Next::Value,
            (Next::Value, b'[') if matches!(self.name, Keep::Element(_)) => Next::ElementOrEnd,
            (Next::ElementOrEnd | Next::CommaOrListEnd, b']') => Next::CommaOrEnd,
            (Next::CommaOrListEnd, b',') => Next::Element,
            (Next::Value, _) if matches!(self.name, Keep::Element(_)) => {
                return Err(FederationError::BadAnswer("no list"));
            }
            (Next::Value, _) if !b",:]}".contains(&byte) => {
                self.begin(self.name, byte);
                Next::CommaOrEnd
            }
            (Next::ElementOrEnd | Next::Element, _) if !b",:]}".contains(&byte) => {
                self.items += 1;
                if self.items > self.items_max {
                    return Err(FederationError::TooLarge);
                }
                self.begin(self.name, byte);
                Next::CommaOrListEnd
            }
            _ => return Err(NOT_JSON),
        };
        Ok(())
    }

    fn begin(&mut self, keep: Keep, byte: u8) {
        let text = if matches!(keep, Keep::Nothing) { Vec::new() } else { vec![byte] };
        let depth = usize::from(byte == b'{' || byte == b'[');
        self.item = Some(Item { keep, text, depth, in_string: byte == b'"', is_escaped: false });
    }

    fn end_item(&mut self) -> Result<(), FederationError> {
        let Some(item) = self.item.take() else { return Ok(()) };
        if matches!(item.keep, Keep::Nothing) {
            return Ok(());
        }
        let text = String::from_utf8(item.text).ok().ok_or(NOT_JSON)?;
        if matches!(item.keep, Keep::Name) {
            let name: String = serde_json::from_str(&text).ok().ok_or(NOT_JSON)?;
            return self.named(&name);
        }
        let value = RawValue::from_string(text).ok().ok_or(NOT_JSON)?;
        match item.keep {
            Keep::Field(name) => {
                self.parts.fields.insert(name, value);
            }
            Keep::Element(name) => self.parts.lists.entry(name).or_default().push(value),
            Keep::Name | Keep::Nothing => {}
        }
        Ok(())
    }

    /// A field begins: what becomes of its value.
    fn named(&mut self, name: &str) -> Result<(), FederationError> {
        let (lists, fields) = self.names;
        let twice = Err(FederationError::BadAnswer("a field that comes twice"));
        self.name = if let Some(list) = lists.iter().find(|list| **list == name) {
            if self.parts.lists.insert(list, Vec::new()).is_some() {
                return twice;
            }
            Keep::Element(list)
        } else if let Some(field) = fields.iter().find(|field| **field == name) {
            if self.parts.fields.contains_key(field) {
                return twice;
            }
            Keep::Field(field)
        } else {
            Keep::Nothing
        };
        Ok(())
    }
}

impl Item {
    fn feed(&mut self, byte: u8) -> Fed {
        if self.in_string {
            if self.is_escaped {
                self.is_escaped = false;
            } else if byte == b'\\' {
                self.is_escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
                return if self.depth == 0 { Fed::Ends } else { Fed::More };
            }
            return Fed::More;
        }
        match byte {
            b',' | b'}' | b']' | b':' if self.depth == 0 => Fed::Ended,
            _ if self.depth == 0 && byte.is_ascii_whitespace() => Fed::Ended,
            b'"' => {
                self.in_string = true;
                Fed::More
            }
            b'{' | b'[' => {
                self.depth += 1;
                Fed::More
            }
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 { Fed::Ends } else { Fed::More }
            }
            _ => Fed::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str, piece_bytes: usize) -> Result<Parts, FederationError> {
        let mut splitter = Splitter::new(&["state", "auth_chain"], &["event", "flag"], 4, 60);
        for piece in text.as_bytes().chunks(piece_bytes) {
            splitter.push(piece)?;
        }
        splitter.finish()
    }

    fn texts(list: Option<Vec<Box<RawValue>>>) -> Vec<String> {
        list.unwrap().iter().map(|value| value.get().to_owned()).collect()
    }

    #[test]
    fn an_answer_is_taken_apart_wherever_its_pieces_end() {
        let text = r#" { "other" : [ {"state":[1]}, "]}" ] , "st\u0061te":[{"a":"}]\"{"}, 1 ,"x"], "n":-1.5e3,"auth_chain":[],
            "event":{"b":[1,{"c":null}]},"flag" : true } "#;
        for piece_bytes in 1..text.len() {
            let mut parts = split(text, piece_bytes).unwrap();
            assert_eq!(texts(parts.list("state")), [r#"{"a":"}]\"{"}"#, "1", r#""x""#]);
            assert!(texts(parts.list("auth_chain")).is_empty());
            assert_eq!(parts.field("event").unwrap().get(), r#"{"b":[1,{"c":null}]}"#);
            assert_eq!(parts.field("flag").unwrap().get(), "true");
            assert!(parts.field("other").is_none());
        }
    }

    /// S2S 2 bodies are bounded before they are read whole.
    #[test]
    fn what_is_no_object_or_too_much_is_refused() {
        let long = format!(r#"{{"state":["{}"]}}"#, "a".repeat(60));
        let cases = [
            "",
            "[]",
            "{",
            r#"{"state":[}"#,
            r#"{"state":[1,]}"#,
            r#"{"state":[1 2]}"#,
            r#"{"a" 1}"#,
            r#"{"a":}"#,
            "{,}",
            r#"{"state":{}}"#,
            r#"{"state":null}"#,
            r#"{"state":[],"state":[]}"#,
            r#"{"event":1,"event":2}"#,
            "{} {}",
            r#"{"state":[tru]}"#,
            r#"{"state":[1,2,3],"auth_chain":[4,5]}"#,
            r#"{"state":[{"a":1]]}"#,
            &long,
        ];
        for text in cases {
            split(text, 3).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[\{\}\[\]",:\\ a1]{0,40}"#, piece_bytes in 1_usize..9) {
            let _: Result<_, _> = split(&text, piece_bytes);
        }

        #[test]
        fn lists_read_as_serde_reads_them(list in proptest::collection::vec("[ -~é]{0,8}", 0..4)) {
            let text = serde_json::json!({ "state": list }).to_string();
            let mut parts = split(&text, 5).unwrap();
            let read: Vec<String> =
                parts.list("state").unwrap().iter().map(|value| serde_json::from_str(value.get()).unwrap()).collect();
            prop_assert_eq!(read, list);
        }
    }
}
