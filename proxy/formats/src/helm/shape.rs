//! Which fields of an index are text, whatever their YAML looks like.
//!
//! Helm decodes an index into typed fields, so `version: 1.10` or `appVersion: 2020-01-01` written without
//! quotes are texts to it. JSON has no such leniency: a number in a text field makes Helm refuse the whole
//! index. So the type comes from the field, and the text is kept as it is written.
//!
//! Source: helm/helm:pkg/chart/v2/{metadata,dependency}.go, pkg/repo/v1/index.go.

/// What is expected at a position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Anything; scalars are typed by their looks.
    Any,
    /// A text, or null.
    Text,
    /// A list, or null.
    List(&'static Shape),
    /// A mapping, or null; the shape of a value depends on its key.
    Map(fn(&str) -> Shape),
}

/// One chart version.
pub(super) const CHART: Shape = Shape::Map(chart);
/// The list of a chart's versions.
pub(super) const CHARTS: Shape = Shape::List(&CHART);
const TEXTS: Shape = Shape::List(&Shape::Text);
const TEXT_MAP: Shape = Shape::Map(|_| Shape::Text);

/// The shape of a top-level field other than `entries`.
pub(super) fn field(key: &str) -> Shape {
    match key {
        "apiVersion" | "generated" => Shape::Text,
        "annotations" => TEXT_MAP,
        "publicKeys" => TEXTS,
        _ => Shape::Any,
    }
}

fn chart(key: &str) -> Shape {
    match key {
        "name" | "home" | "version" | "description" | "icon" | "apiVersion" | "condition" | "tags"
        | "appVersion" | "kubeVersion" | "type" | "created" | "digest" | "checksum" | "engine"
        | "tillerVersion" | "url" => Shape::Text,
        "sources" | "keywords" | "urls" => TEXTS,
        "annotations" => TEXT_MAP,
        "maintainers" => Shape::List(&TEXT_MAP),
        "dependencies" => Shape::List(&Shape::Map(dependency)),
        _ => Shape::Any,
    }
}

fn dependency(key: &str) -> Shape {
    match key {
        "name" | "version" | "repository" | "condition" | "alias" => Shape::Text,
        "tags" => TEXTS,
        _ => Shape::Any,
    }
}
