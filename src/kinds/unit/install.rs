//! The `[Install]` section of a unit file, and the links it asks for: what `systemctl enable` does,
//! for a directory that stands for a machine. See systemd.unit(5) and systemd.syntax(7).

use super::name;

/// What the `[Install]` sections of a unit file and its drop-ins say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Install {
    wanted_by: Vec<String>,
    required_by: Vec<String>,
    upheld_by: Vec<String>,
    alias: Vec<String>,
    /// Units to enable and disable with this one.
    pub(super) also: Vec<String>,
    default_instance: Option<String>,
}

/// Why no links follow from an `[Install]` section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InstallError {
    /// A template is linked by an instance.
    #[error("it is a template without DefaultInstance=; enable an instance of it, name@instance")]
    NeedsInstance,
    /// Only a running host knows what this stands for.
    #[error("%{0} in its [Install] section is known on a running host only")]
    Specifier(char),
    /// The section names something that is no unit.
    #[error("`{0}` in its [Install] section is no unit name")]
    NotAName(String),
}

impl Install {
    /// Adds what `text`, a unit file or drop-in, says. Lists append, an empty value clears.
    pub(super) fn add(&mut self, text: &str) {
        let mut here = false;
        for line in lines(text) {
            let line = line.trim();
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                here = section == "Install";
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| here) else { continue };
            let value = value.trim();
            let list = match key.trim() {
                "WantedBy" => &mut self.wanted_by,
                "RequiredBy" => &mut self.required_by,
                "UpheldBy" => &mut self.upheld_by,
                "Alias" => &mut self.alias,
                "Also" => &mut self.also,
                "DefaultInstance" => {
                    self.default_instance = (!value.is_empty()).then(|| value.to_owned());
                    continue;
                }
                _ => continue,
            };
            if value.is_empty() {
                list.clear();
            }
            list.extend(words(value));
        }
    }

    /// Nothing to link, and no other unit to enable: static.
    pub(super) fn is_empty(&self) -> bool {
        self.has_no_links() && self.also.is_empty()
    }

    /// Nothing to link.
    pub(super) fn has_no_links(&self) -> bool {
        [&self.wanted_by, &self.required_by, &self.upheld_by, &self.alias].iter().all(|list| list.is_empty())
    }

    /// The links that enabling `name` makes, below /etc/systemd/system.
    ///
    /// # Errors
    /// Where the section asks for what cannot be done here.
    pub(super) fn links(&self, name: &str) -> Result<Vec<String>, InstallError> {
        let mut links = Vec::new();
        for alias in &self.alias {
            let alias = unit_name(alias, name)?;
            if alias != name && name::suffix(&alias) == name::suffix(name) {
                links.push(alias);
            }
        }
        for (list, directory) in
            [(&self.wanted_by, "wants"), (&self.required_by, "requires"), (&self.upheld_by, "upholds")]
        {
            for target in list {
                let target = unit_name(target, name)?;
                let linked = match &self.default_instance {
                    Some(instance) if name::is_template(name) => {
                        let instance = expand(instance, name)?;
                        let linked = name::with_instance(name, &instance);
                        if !name::is_valid(&linked) {
                            return Err(InstallError::NotAName(crate::model::one_line(&linked, 80)));
                        }
                        linked
                    }
                    // A template may be pulled in by a template, which then passes its instance on.
                    None if name::is_template(name) && !name::is_template(&target) => {
                        return Err(InstallError::NeedsInstance);
                    }
                    _ => name.to_owned(),
                };
                links.push(format!("{target}.{directory}/{linked}"));
            }
        }
        Ok(links)
    }
}

/// `text` with the specifiers filled in that the name of the unit answers.
fn expand(text: &str, unit: &str) -> Result<String, InstallError> {
    let (prefix, instance) = name::prefix_and_instance(unit);
    let instance = instance.unwrap_or_default();
    let whole = unit.strip_suffix(name::suffix(unit)).unwrap_or(unit);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some('i') => out.push_str(instance),
            Some('p') => out.push_str(prefix),
            Some('j') => out.push_str(prefix.rsplit('-').next().unwrap_or(prefix)),
            Some('n') => out.push_str(unit),
            Some('N') => out.push_str(whole),
            Some(other) => return Err(InstallError::Specifier(other)),
            None => out.push('%'),
        }
    }
    Ok(out)
}

/// A name from the section, filled in. It becomes part of a path, so it has to be a name.
fn unit_name(text: &str, unit: &str) -> Result<String, InstallError> {
    let name = expand(text, unit)?;
    if name::is_valid(&name) { Ok(name) } else { Err(InstallError::NotAName(crate::model::one_line(&name, 80))) }
}

/// The lines, comments left out, those that end in a backslash joined with what follows.
fn lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        // Comments are left out between joined lines too.
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(more) => {
                open.push_str(more);
                open.push(' ');
            }
            None => {
                open.push_str(line);
                found.push(std::mem::take(&mut open));
            }
        }
    }
    if !open.is_empty() {
        found.push(open);
    }
    found
}

/// Words separated by white space, with quotes taken off.
fn words(value: &str) -> impl Iterator<Item = String> {
    value.split_whitespace().map(|word| {
        let quoted = ['"', '\''].iter().find_map(|&quote| word.strip_prefix(quote)?.strip_suffix(quote));
        quoted.unwrap_or(word).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(text: &str) -> Install {
        let mut install = Install::default();
        install.add(text);
        install
    }

    #[test]
    fn links_are_those_of_systemctl_enable() {
        let section = install(
            "[Unit]\nWantedBy=ignored.target\n[Install]\nWantedBy=multi-user.target\nRequiredBy=a.target b.target\n\
             UpheldBy=c.service\nAlias=www.service httpd.service\n",
        );
        assert_eq!(
            section.links("nginx.service").expect("names only"),
            [
                "www.service",
                "httpd.service",
                "multi-user.target.wants/nginx.service",
                "a.target.requires/nginx.service",
                "b.target.requires/nginx.service",
                "c.service.upholds/nginx.service",
            ]
        );
    }

    #[test]
    fn keys_append_and_an_empty_value_clears() {
        let mut section = install("[Install]\nWantedBy=a.target\nWantedBy = b.target\n");
        assert_eq!(section.wanted_by, ["a.target", "b.target"]);
        section.add("[Install]\nWantedBy=\nWantedBy=c.target\n");
        assert_eq!(section.wanted_by, ["c.target"]);
        section.add("[Install]\nDefaultInstance=x\nDefaultInstance=\n");
        assert_eq!(section.default_instance, None);
    }

    #[test]
    fn lines_go_on_after_a_backslash_and_comments_do_not_count() {
        let section = install(
            "[Install]\n# WantedBy=no.target\n ; Alias=no.service\nWantedBy=a.target \\\n# in between\n  \"b.target\"\nAlso=\\",
        );
        assert_eq!(section.wanted_by, ["a.target", "b.target"]);
        assert!(section.also.is_empty());
    }

    #[test]
    fn templates_are_linked_by_instance() {
        let section = install("[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n");
        assert_eq!(section.links("getty@.service").expect("has one"), ["getty.target.wants/getty@tty1.service"]);
        assert_eq!(section.links("getty@tty5.service").expect("is one"), ["getty.target.wants/getty@tty5.service"]);
        let without = install("[Install]\nWantedBy=multi-user.target\n");
        assert_eq!(without.links("a@.service"), Err(InstallError::NeedsInstance));
        let passed_on = install("[Install]\nWantedBy=session@.target\n");
        assert_eq!(passed_on.links("a@.service").expect("passed on"), ["session@.target.wants/a@.service"]);
    }

    #[test]
    fn specifiers_of_the_name_are_filled_in_and_others_refused() {
        let section = install("[Install]\nAlias=%p-%i.service\nWantedBy=dev-%i.device\n");
        assert_eq!(
            section.links("fs-mount@sda1.service").expect("from the name"),
            ["fs-mount-sda1.service", "dev-sda1.device.wants/fs-mount@sda1.service"]
        );
        assert_eq!(install("[Install]\nAlias=%H.service\n").links("a.service"), Err(InstallError::Specifier('H')));
    }

    #[test]
    fn a_section_cannot_link_outside_of_its_directory() {
        for bad in ["../../../tmp/x.target", "a/b.target", "x"] {
            let section = install(&format!("[Install]\nWantedBy={bad}\n"));
            assert_eq!(section.links("a.service"), Err(InstallError::NotAName(bad.to_owned())));
        }
        let section = install("[Install]\nDefaultInstance=../x\nWantedBy=a.target\n");
        assert_eq!(section.links("a@.service"), Err(InstallError::NotAName("a@../x.service".to_owned())));
    }

    #[test]
    fn without_links_a_unit_is_static_or_indirect() {
        assert!(install("[Service]\nExecStart=/bin/true\n").is_empty());
        let indirect = install("[Install]\nAlso=a.socket\n");
        assert!(!indirect.is_empty() && indirect.has_no_links());
    }
}
