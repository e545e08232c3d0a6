//! How the core names a database.
//!
//! Scopes, sticky choices and write records outlive a rebuild of the configuration (`override_settings`, a replica
//! added at run time), so they must not hold indexes into it. They hold an [`Alias`]: a number that stands for the same
//! alias for as long as the process lives.

use std::collections::HashMap;

/// The number of a database alias. A cluster is named by the alias of its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alias(u32);

impl Alias {
    /// The number itself, below 2^32 - 1: an atomic integer can then hold "none" beside it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The alias with this number; only for numbers that [`Alias::number`] returned.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// Gives out the numbers. An alias, once named, keeps its number.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    numbers: HashMap<String, Alias>,
    names: Vec<String>,
}

impl Aliases {
    /// The number of `name`, a new one if it has none yet.
    ///
    /// # Panics
    /// If a process names 2^32 - 1 aliases.
    pub fn intern(&mut self, name: &str) -> Alias {
        if let Some(&alias) = self.numbers.get(name) {
            return alias;
        }
        let number = u32::try_from(self.names.len()).expect("fewer than 2^32 aliases");
        assert!(number < u32::MAX, "fewer than 2^32 - 1 aliases");
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), Alias(number));
        Alias(number)
    }

    /// The number of `name`, if it ever was given one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Alias> {
        self.numbers.get(name).copied()
    }

    /// The name behind a number.
    #[must_use]
    pub fn name(&self, alias: Alias) -> Option<&str> {
        self.names.get(alias.0 as usize).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = Aliases::default();
        let first = names.intern("default");
        let second = names.intern("replica1");
        assert_ne!(first, second);
        assert_eq!(names.intern("default"), first);
        assert_eq!(names.find("replica1"), Some(second));
        assert_eq!(names.find("replica2"), None);
        assert_eq!(names.name(second), Some("replica1"));
    }
}
