//! How much a template asks of the engine's parser, told without parsing.

/// The most that one tag may hold, in bytes, strings and spaces not counted. The parser goes one level deeper with
/// each operator at most.
pub(super) const TAG_LIMIT: usize = 8 << 10;

/// The most tags of one template. The parser goes one level deeper with each `{% elif %}`.
pub(super) const TAGS_LIMIT: usize = 10_000;

/// Where the engine is while it reads.
struct Scan<'s> {
    rest: &'s [u8],
    /// Brackets that are open; one that was never closed keeps a tag open, as it does for the engine.
    open: i64,
}

/// Why the parser is not given `source`: it has more tags, or a longer one, than the limits. Follows what the engine
/// takes for a tag: comments and `raw` blocks are none, and an end within a string or within brackets is no end.
pub(super) fn refused(source: &str) -> Option<String> {
    let mut scan = Scan { rest: source.as_bytes(), open: 0 };
    let mut tags = 0;
    while let Some(kind) = scan.start() {
        match kind {
            b'#' => {
                scan.skip_past(b"#}");
                continue;
            }
            b'%' if scan.is_raw() => {
                scan.skip_raw();
                continue;
            }
            _ => {}
        }
        tags += 1;
        if tags > TAGS_LIMIT {
            return Some(format!("a template has at most {TAGS_LIMIT} tags; this one has more"));
        }
        if scan.length(if kind == b'%' { b"%}" } else { b"}}" }) > TAG_LIMIT {
            return Some(format!(
                "one tag of a template has at most {TAG_LIMIT} bytes besides strings and spaces; tag {tags} has more"
            ));
        }
    }
    None
}

impl Scan<'_> {
    /// Goes past the next `{{`, `{%` or `{#`, and tells which.
    fn start(&mut self) -> Option<u8> {
        let at = self.rest.windows(2).position(|two| two[0] == b'{' && matches!(two[1], b'{' | b'%' | b'#'))?;
        let kind = self.rest[at + 1];
        self.rest = &self.rest[at + 2..];
        if let [b'-' | b'+', rest @ ..] = self.rest {
            self.rest = rest;
        }
        Some(kind)
    }

    fn skip_past(&mut self, end: &[u8]) {
        let at = self.rest.windows(end.len()).position(|window| window == end);
        self.rest = at.map_or(&[], |at| &self.rest[at + end.len()..]);
    }

    /// Whether a `{%` has begun a `raw` block.
    fn is_raw(&self) -> bool {
        basic_tag(self.rest, b"raw").is_some()
    }

    fn skip_raw(&mut self) {
        while !self.rest.is_empty() {
            self.skip_past(b"{%");
            let tag = match self.rest {
                [b'-' | b'+', rest @ ..] => rest,
                rest => rest,
            };
            if let Some(rest) = basic_tag(tag, b"endraw") {
                self.rest = rest;
                return;
            }
        }
    }

    /// Goes past the tag that has begun, and tells how long it is.
    fn length(&mut self, end: &[u8]) -> usize {
        let mut length = 0;
        while let [first, rest @ ..] = self.rest {
            if self.open == 0 && self.rest.starts_with(end) {
                self.rest = &self.rest[end.len()..];
                break;
            }
            self.rest = rest;
            match first {
                b'\'' | b'"' => self.skip_string(*first),
                b'(' | b'[' | b'{' => self.open += 1,
                b')' | b']' | b'}' => self.open -= 1,
                _ => {}
            }
            length += usize::from(!first.is_ascii_whitespace());
        }
        length
    }

    /// Goes past the end of a string that has begun.
    fn skip_string(&mut self, quote: u8) {
        while let [first, rest @ ..] = self.rest {
            self.rest = rest;
            match first {
                b'\\' => self.rest = self.rest.get(1..).unwrap_or_default(),
                first if *first == quote => return,
                _ => {}
            }
        }
    }
}

/// What follows the tag `name`, if `rest` is what follows its `{%`.
fn basic_tag<'s>(rest: &'s [u8], name: &[u8]) -> Option<&'s [u8]> {
    let rest = rest.trim_ascii_start().strip_prefix(name)?.trim_ascii_start();
    let rest = match rest {
        [b'-' | b'+', rest @ ..] => rest,
        rest => rest,
    };
    rest.strip_prefix(b"%}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(source: &str) -> bool {
        refused(source).is_none()
    }

    #[test]
    fn the_length_of_one_tag_is_bounded_at_its_edge() {
        for (start, end) in [("{{", "}}"), ("{%", "%}"), ("{{-", "-}}"), ("a {{ x }} {% raw %}{{{% endraw %}{{", "}}")]
        {
            let of = |length: usize| format!("{start}{}{end}", "x".repeat(length));
            assert!(fits(&of(TAG_LIMIT - 1)), "{start}");
            assert!(!fits(&of(TAG_LIMIT + 1)), "{start}");
        }
        assert_eq!(
            refused(&format!("{{{{ {} }}}}", "x".repeat(TAG_LIMIT + 1))).as_deref(),
            Some("one tag of a template has at most 8192 bytes besides strings and spaces; tag 1 has more")
        );
    }

    #[test]
    fn the_number_of_tags_is_bounded_at_its_edge() {
        assert!(fits(&"{{ x }}".repeat(TAGS_LIMIT)));
        assert!(!fits(&"{{ x }}".repeat(TAGS_LIMIT + 1)));
        assert!(fits(&"{# x #}".repeat(TAGS_LIMIT + 1)));
        assert!(fits(&format!("{{% raw %}}{}{{%- endraw -%}}", "{{ x }}".repeat(TAGS_LIMIT + 1))));
    }

    #[test]
    fn long_texts_and_strings_are_no_long_tags() {
        let long = "x".repeat(100_000);
        for source in [long.clone(), format!("{{{{ '{long}' }}}}"), format!("{{# {long} #}}"), format!("{{ {long} }}")]
        {
            assert!(fits(&source), "{}…", &source[..10]);
        }
    }

    /// Whatever makes the engine read on makes the tag longer here too.
    #[test]
    fn a_tag_ends_where_the_engine_takes_it_to_end() {
        let long = "-".repeat(TAG_LIMIT + 1);
        for source in [
            format!("{{{{ '}}}}' {long} }}}}"),
            format!("{{{{ \"a\\\"}}}}\" {long} }}}}"),
            format!("{{{{ [}}}} {long} }}}}"),
            format!("{{{{ )}}}} {long} }}}}"),
            format!("{{{{ (1 }}}} x {{{{ }}}} {long}"),
            format!("{{% raw %}}{{{{ '{{% endraw %}}{{{{ 1 ' }}}} ' {long} }}}}"),
            format!("{{% raw%}}{{{{ ' {{%endraw%}} {{{{ {long} }}}}"),
            format!("{{# ' #}}{{{{ {long} }}}}"),
            format!("{{#{{{{#}}{{{{ {long} }}}}"),
            format!("{{%- raw %}}{{%+ endraw +%}}{{{{ {long} }}}}"),
            format!("{{{{{{{{ }}}}}}}} {{% {long}"),
        ] {
            assert!(!fits(&source), "{}…", &source[..20]);
        }
    }
}
