//! The original document: its two C listings, cut into top-level items without a byte changed.

use std::path::PathBuf;

/// The listings of the document.
pub struct Document {
    /// The listing of the client: its helpers and `dv_ssl_client_main`.
    pub client: Vec<Item>,
    /// The listing of the server: types, helpers and `dv_ssl_server_main`.
    pub server: Vec<Item>,
}

/// One top-level item of a listing, byte for byte as it stands there.
#[derive(Clone, Debug)]
pub struct Item {
    pub kind: Kind,
    pub name: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A preprocessor line; its name is the first word after the directive.
    Directive,
    Type,
    Function,
    Object,
}

/// Where the document is expected.
pub fn path() -> PathBuf {
    std::env::var_os("DV_ORIGINAL_DOC")
        .map(PathBuf::from)
        .unwrap_or_else(|| crate::common::root().join("../shared/original/chapter-3-dtls-api.md"))
}

impl Document {
    /// Reads the document, or `None` when there is none.
    pub fn read() -> Option<Document> {
        let text = std::fs::read_to_string(path()).ok()?;
        Some(Document {
            client: split(listing(&text, "## 3.1 Client")),
            server: split(listing(&text, "## 3.2 Server")),
        })
    }
}

/// The item `name` of a listing.
pub fn item<'a>(listing: &'a [Item], name: &str) -> &'a Item {
    let mut found = listing.iter().filter(|item| item.name == name);
    let item = found.next().unwrap_or_else(|| panic!("the listing has no {name}"));
    assert!(found.next().is_none(), "the listing has {name} twice");
    item
}

/// The block of C under a heading.
fn listing<'a>(document: &'a str, heading: &str) -> &'a str {
    let section = document.split_once(heading).unwrap_or_else(|| panic!("no section \"{heading}\"")).1;
    let block = section.split_once("\n```c\n").unwrap_or_else(|| panic!("no C under \"{heading}\"")).1;
    block.split_once("\n```").unwrap_or_else(|| panic!("the C under \"{heading}\" has no end")).0
}

/// Cuts a listing into its top-level items; what lies between them is blank or comment.
fn split(listing: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = start_of_item(listing, 0);
    while at < listing.len() {
        let end =
            if listing[at..].starts_with('#') { end_of_line(listing, at) } else { end_of_declaration(listing, at) };
        items.push(Item::new(&listing[at..end]));
        at = start_of_item(listing, end);
    }
    items
}

fn start_of_item(text: &str, mut at: usize) -> usize {
    while at < text.len() {
        if text.as_bytes()[at].is_ascii_whitespace() {
            at += 1;
        } else if is_comment(&text[at..]) {
            at += length_of_opaque(&text[at..]);
        } else {
            break;
        }
    }
    at
}

/// The end of a preprocessor line, with the lines that it is continued on.
fn end_of_line(text: &str, start: usize) -> usize {
    let mut at = start;
    loop {
        match text[at..].find('\n') {
            None => return text.len(),
            Some(n) if text[..at + n].ends_with('\\') => at += n + 1,
            Some(n) => return at + n,
        }
    }
}

/// The end of a declaration or definition: the closing brace of a function's body, or else the semicolon.
fn end_of_declaration(text: &str, start: usize) -> usize {
    let (mut depth, mut in_body, mut last, mut at) = (0, false, b' ', start);
    while at < text.len() {
        let byte = text.as_bytes()[at];
        match length_of_opaque(&text[at..]) {
            0 => at += 1,
            n => {
                at += n;
                continue;
            }
        }
        match byte {
            b'{' | b'(' | b'[' => {
                // A brace after the closing parenthesis of the parameters opens a body; any other is a type's or a value's.
                in_body |= depth == 0 && byte == b'{' && last == b')';
                depth += 1;
            }
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 && in_body {
                    return at;
                }
            }
            b';' if depth == 0 => return at,
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
    }
    panic!("no end of: {}", text[start..].lines().next().unwrap_or_default());
}

fn is_comment(text: &str) -> bool {
    text.starts_with("/*") || text.starts_with("//")
}

/// The length of the comment or the literal that `text` begins with; 0 when it begins with neither.
fn length_of_opaque(text: &str) -> usize {
    let to = |end: &str| text[2..].find(end).map_or(text.len(), |n| n + 2);
    if text.starts_with("//") {
        return to("\n");
    }
    if text.starts_with("/*") {
        return to("*/") + 2;
    }
    let quote = text.as_bytes()[0];
    if quote != b'"' && quote != b'\'' {
        return 0;
    }
    let mut at = 1;
    while text.as_bytes()[at] != quote {
        at += if text.as_bytes()[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

impl Item {
    fn new(text: &str) -> Item {
        let last_word = |text: &str| {
            let text = text.trim_end();
            let start = text.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |n| n + 1);
            text[start..].to_string()
        };
        let before = |stop: &[char]| last_word(text.split(stop).next().unwrap_or_default());
        let (kind, name) = if text.starts_with('#') {
            (Kind::Directive, text.split_whitespace().nth(1).unwrap_or_default().to_string())
        } else if text.starts_with("typedef") {
            (Kind::Type, last_word(text.trim_end_matches(';')))
        } else if text.ends_with('}') {
            (Kind::Function, before(&['(']))
        } else {
            (Kind::Object, before(&['[', '=', ';']))
        };
        Item { kind, name, text: text.to_string() }
    }
}
