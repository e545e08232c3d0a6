//! Which cluster a model lives on, and whether it is always read from the primary.
//!
//! Both are configured by names: an app label (`"billing"`) or a model (`"billing.Account"`). The case of a model's
//! name does not matter, as in Django. The more particular name wins.

use std::collections::{HashMap, HashSet};

/// The place of a cluster in the configuration.
pub type ClusterIndex = usize;

/// The model labels of one cluster's settings.
#[derive(Clone, Debug, Default)]
pub struct ModelLabels {
    /// `MODELS`: the models that live on it.
    pub models: Vec<String>,
    /// `PRIMARY_ONLY`: the models that are always read from its primary.
    pub primary_only: Vec<String>,
}

/// A model as Django names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    app: String,
    model: Option<String>,
}

impl Label {
    /// The label of a model; with no `model` that of a whole app.
    #[must_use]
    pub fn new(app: &str, model: Option<&str>) -> Self {
        Self { app: app.to_owned(), model: model.map(str::to_lowercase) }
    }

    fn parse(name: &str) -> Self {
        match name.split_once('.') {
            Some((app, model)) => Self::new(app, Some(model)),
            None => Self::new(name, None),
        }
    }

    fn whole_app(&self) -> Self {
        Self { app: self.app.clone(), model: None }
    }
}

/// The models of every cluster.
#[derive(Clone, Debug, Default)]
pub struct ModelMap {
    homes: HashMap<Label, ClusterIndex>,
    exempt: Vec<HashSet<Label>>,
    rest: Option<ClusterIndex>,
}

impl ModelMap {
    /// `rest` is the cluster that takes every model not named by another one (the one of `default`).
    #[must_use]
    pub fn new(clusters: &[ModelLabels], rest: Option<ClusterIndex>) -> Self {
        let mut models = Self { rest, ..Self::default() };
        for (index, names) in clusters.iter().enumerate() {
            models.homes.extend(names.models.iter().map(|name| (Label::parse(name), index)));
            models.exempt.push(names.primary_only.iter().map(|name| Label::parse(name)).collect());
        }
        models
    }

    /// The cluster of a model that goes by `labels`: its own, then that of the model it was made for (an automatic
    /// many-to-many table lives with the model that declares the field).
    #[must_use]
    pub fn home(&self, labels: &[Label]) -> Option<ClusterIndex> {
        let by_model = labels.iter().find_map(|label| self.homes.get(label));
        let by_app = || labels.iter().find_map(|label| self.homes.get(&label.whole_app()));
        by_model.or_else(by_app).copied().or(self.rest)
    }

    /// Whether a model that goes by any of `labels` is always read from the primary of `cluster`.
    #[must_use]
    pub fn is_exempt(&self, cluster: ClusterIndex, labels: &[Label]) -> bool {
        let exempt = &self.exempt[cluster];
        labels.iter().any(|label| exempt.contains(label) || exempt.contains(&label.whole_app()))
    }

    /// Whether some model of `app`, or all of them, live on `cluster`.
    #[must_use]
    pub fn has_part_of(&self, cluster: ClusterIndex, app: &str) -> bool {
        let named = self.homes.iter().any(|(label, &home)| home == cluster && label.app == app);
        named || self.home(&[Label::new(app, None)]) == Some(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(models: &[&str], primary_only: &[&str]) -> ModelLabels {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        ModelLabels { models: owned(models), primary_only: owned(primary_only) }
    }

    fn models() -> ModelMap {
        let default = names(&[], &["sessions", "billing.Account"]);
        let people = names(&["people", "billing.Invoice"], &["people.Person"]);
        ModelMap::new(&[default, people], Some(0))
    }

    fn label(app: &str, model: &str) -> [Label; 1] {
        [Label::new(app, Some(model))]
    }

    #[test]
    fn default_takes_the_rest() {
        assert_eq!(models().home(&label("board", "Post")), Some(0));
        assert_eq!(models().home(&label("people", "Person")), Some(1));
        let no_default = ModelMap::new(&[names(&["people"], &[])], None);
        assert_eq!(no_default.home(&label("board", "Post")), None);
    }

    #[test]
    fn a_model_is_more_particular_than_its_app() {
        assert_eq!(models().home(&label("billing", "Account")), Some(0));
        assert_eq!(models().home(&label("billing", "invoice")), Some(1));
    }

    #[test]
    fn an_automatic_table_lives_with_its_model() {
        let through = [Label::new("billing", Some("Invoice_tags")), Label::new("billing", Some("Invoice"))];
        assert_eq!(models().home(&through), Some(1));
    }

    #[test]
    fn exemptions_are_by_app_or_by_model_whatever_the_case() {
        let models = models();
        assert!(models.is_exempt(0, &label("sessions", "Session")));
        assert!(models.is_exempt(0, &label("billing", "ACCOUNT")));
        assert!(!models.is_exempt(0, &label("billing", "Invoice")));
        assert!(!models.is_exempt(0, &label("people", "Person")));
        assert!(models.is_exempt(1, &label("people", "Person")));
    }

    #[test]
    fn an_app_may_be_spread_over_clusters() {
        let models = models();
        assert!(models.has_part_of(0, "billing") && models.has_part_of(1, "billing"));
        assert!(!models.has_part_of(0, "people") && models.has_part_of(1, "people"));
        assert!(!models.has_part_of(1, "board"));
    }
}
