//! Reading an index in any YAML, as a stream of events: slow but complete. Aliases, nesting and the size of
//! one chart version are bounded, so that a bomb is an error (RS-63).

use std::{fmt, io::Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Budget, Options};

use super::{
    read::{Piece, Sink},
    shape::{self, Shape},
};
use crate::{IndexError, MAX_INDEX, limits};

/// Most values in one chart version or top-level field.
const MAX_NODES: usize = 100_000;
/// Most events that aliases may repeat in one document.
const MAX_REPLAYED: usize = 200_000;

fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_depth = limits::MAX_DEPTH;
    budget.max_documents = 1;
    // A document of the largest size can hold no more; what is kept at a time is bounded by MAX_NODES.
    let most = MAX_INDEX as usize;
    budget.max_reader_input_bytes = Some(most);
    budget.max_total_scalar_bytes = most;
    budget.max_events = most;
    budget.max_nodes = most;
    budget.max_aliases = 10_000;
    budget.max_anchors = 10_000;
    budget.max_recorded_anchor_events = MAX_REPLAYED;
    budget.max_recorded_anchor_bytes = 8 << 20;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = MAX_REPLAYED;
    options.with_snippet = false;
    options
}

/// What is under way: where pieces go, and why it ended.
struct Reading<'a, 's> {
    sink: &'a mut Sink<'s>,
    failed: Option<IndexError>,
    nodes: usize,
}

impl Reading<'_, '_> {
    fn give<E: serde::de::Error>(&mut self, piece: Piece) -> Result<(), E> {
        self.nodes = 0;
        (self.sink)(piece).map_err(|error| {
            self.failed = Some(error);
            E::custom("stopped")
        })
    }

    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.failed = Some(IndexError::TooLarge("number of values in one chart version"));
            return Err(E::custom("stopped"));
        }
        Ok(())
    }
}

/// Reads the whole index.
pub(super) fn index(input: impl Read, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut reading = Reading { sink, failed: None, nodes: 0 };
    let outcome = serde_saphyr::with_deserializer_from_reader_with_options(input, options(), |yaml| {
        yaml.deserialize_map(Document(&mut reading))
    });
    settle(reading.failed, outcome)
}

/// Reads one value of `shape` from a piece of a document.
pub(super) fn value(text: &str, shape: Shape) -> Result<Value, IndexError> {
    let sink: &mut Sink<'_> = &mut |_| Ok(());
    let mut reading = Reading { sink, failed: None, nodes: 0 };
    let outcome = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        Shaped(shape, &mut reading).deserialize(yaml)
    });
    settle(reading.failed, outcome)
}

fn settle<T>(failed: Option<IndexError>, outcome: Result<T, serde_saphyr::Error>) -> Result<T, IndexError> {
    match (failed, outcome) {
        (Some(error), _) => Err(error),
        (None, Ok(value)) => Ok(value),
        (None, Err(error)) => Err(IndexError::malformed(error.to_string())),
    }
}

/// The top level.
struct Document<'r, 'a, 's>(&'r mut Reading<'a, 's>);

impl<'de> Visitor<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a chart index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "entries" {
                map.next_value_seed(Entries(&mut *self.0))?;
            } else {
                let value = map.next_value_seed(Shaped(shape::field(&key), &mut *self.0))?;
                self.0.give(Piece::Field(key, value))?;
            }
        }
        Ok(())
    }
}

/// `entries`, and (as [`Versions`]) the list of each chart.
struct Entries<'r, 'a, 's>(&'r mut Reading<'a, 's>);

impl<'de> DeserializeSeed<'de> for Entries<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, yaml: D) -> Result<(), D::Error> {
        yaml.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of chart names")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, yaml: D) -> Result<(), D::Error> {
        yaml.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.0.give(Piece::Chart(name))?;
            map.next_value_seed(Versions(&mut *self.0))?;
        }
        Ok(())
    }
}

struct Versions<'r, 'a, 's>(&'r mut Reading<'a, 's>);

impl<'de> DeserializeSeed<'de> for Versions<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, yaml: D) -> Result<(), D::Error> {
        yaml.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Versions<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of chart versions")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, yaml: D) -> Result<(), D::Error> {
        yaml.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element_seed(Shaped(shape::CHART, &mut *self.0))? {
            self.0.give(Piece::Entry(entry))?;
        }
        Ok(())
    }
}

/// A value of a shape.
struct Shaped<'r, 'a, 's>(Shape, &'r mut Reading<'a, 's>);

impl<'de> DeserializeSeed<'de> for Shaped<'_, '_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, yaml: D) -> Result<Value, D::Error> {
        self.1.count()?;
        match self.0 {
            Shape::Any => yaml.deserialize_any(self),
            _ => yaml.deserialize_option(self),
        }
    }
}

impl<'de> Visitor<'de> for Shaped<'_, '_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Shape::Any => "a value",
            Shape::Text => "a text",
            Shape::List(_) => "a list",
            Shape::Map(_) => "a mapping",
        })
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, yaml: D) -> Result<Value, D::Error> {
        match self.0 {
            Shape::Any => yaml.deserialize_any(self),
            Shape::Text => yaml.deserialize_string(self),
            Shape::List(_) => yaml.deserialize_seq(self),
            Shape::Map(_) => yaml.deserialize_map(self),
        }
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("JSON has no such number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = match self.0 {
            Shape::List(inner) => *inner,
            Shape::Any => Shape::Any,
            Shape::Text | Shape::Map(_) => return Err(A::Error::custom("a list is out of place")),
        };
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Shaped(inner, &mut *self.1))? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let shape_of = match self.0 {
            Shape::Map(shape_of) => shape_of,
            Shape::Any => |_: &str| Shape::Any,
            Shape::Text | Shape::List(_) => return Err(A::Error::custom("a mapping is out of place")),
        };
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Shaped(shape_of(&key), &mut *self.1))?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}
