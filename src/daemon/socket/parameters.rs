use serde_json::{Map, Value};

use super::wire::Wrong;

/// The parameters of one call, taken out one by one; what is left over at the end is unknown, and an error.
#[derive(Debug)]
pub(super) struct Parameters(Map<String, Value>);

impl Parameters {
    pub(super) fn new(parameters: Option<Value>) -> Result<Self, Wrong> {
        match parameters {
            None | Some(Value::Null) => Ok(Self(Map::new())),
            Some(Value::Object(map)) => Ok(Self(map)),
            Some(_) => Err(Wrong::parameter("parameters", "parameters are an object")),
        }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_u64().filter(|&count| i64::try_from(count).is_ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(Wrong::parameter(name, format!("`{name}` is a whole number that is not negative"))),
        }
    }

    /// A whole number that has to be there.
    pub(super) fn integer(&mut self, name: &str) -> Result<i64, Wrong> {
        let value = self.take(name).and_then(|value| value.as_i64());
        value.ok_or_else(|| Wrong::parameter(name, format!("`{name}` is missing, or is no whole number")))
    }

    /// A text that may be left out.
    pub(super) fn maybe_text(&mut self, name: &str) -> Result<Option<String>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Wrong::parameter(name, format!("`{name}` is a text"))),
        }
    }

    /// A text that has to be there.
    pub(super) fn text(&mut self, name: &str) -> Result<String, Wrong> {
        self.maybe_text(name)?.ok_or_else(|| Wrong::parameter(name, format!("`{name}` is missing")))
    }

    /// A list of texts that has to be there; at most `most` of them.
    pub(super) fn texts(&mut self, name: &str, most: usize) -> Result<Vec<String>, Wrong> {
        let Some(Value::Array(list)) = self.take(name) else {
            return Err(Wrong::parameter(name, format!("`{name}` is missing, or is no list of texts")));
        };
        if list.len() > most {
            return Err(Wrong::parameter(name, format!("`{name}` has {} entries; {most} are the most", list.len())));
        }
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(Wrong::parameter(name, format!("`{name}` is a list of texts"))),
        };
        list.into_iter().map(text).collect()
    }

    /// Nothing else may be there.
    pub(super) fn end(self) -> Result<(), Wrong> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Wrong::parameter(name, "this method has no such parameter")),
        }
    }

    /// A value that is null is not there.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::daemon::socket::wire::Fault;

    fn parameters(value: Value) -> Parameters {
        Parameters::new(Some(value)).expect("an object")
    }

    fn wrong<T: std::fmt::Debug>(result: Result<T, Wrong>) -> String {
        match result.expect_err("refused") {
            Wrong::Agent(Fault::InvalidParameter { parameter, .. }) => parameter,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_over_is_named() {
        let mut given = parameters(json!({"limit": 3, "limt": 4}));
        assert_eq!(given.count("limit"), Ok(Some(3)));
        assert_eq!(wrong(given.end()), "limt");
        assert_eq!(parameters(json!({})).end(), Ok(()));
    }

    #[test]
    fn what_is_null_is_not_there() {
        let mut given = parameters(json!({"limit": null, "commit": null}));
        assert_eq!(given.count("limit"), Ok(None));
        assert_eq!(given.maybe_text("commit"), Ok(None));
        assert_eq!(given.end(), Ok(()));
        assert!(Parameters::new(None).is_ok() && Parameters::new(Some(Value::Null)).is_ok());
        assert_eq!(wrong(Parameters::new(Some(json!([1])))), "parameters");
    }

    #[test]
    fn each_value_has_its_type() {
        for bad in [json!(-1), json!(1.5), json!("1"), json!(u64::MAX), json!([1])] {
            assert_eq!(wrong(parameters(json!({"limit": bad})).count("limit")), "limit");
        }
        for bad in [json!(1.5), json!("1"), json!(u64::MAX), json!(null)] {
            assert_eq!(wrong(parameters(json!({"until": bad})).integer("until")), "until");
        }
        for bad in [json!(1), json!(null), json!(["a"])] {
            assert_eq!(wrong(parameters(json!({"copy": bad})).text("copy")), "copy");
        }
        for bad in [json!("a"), json!(null), json!([1]), json!([null]), json!({"a": "b"})] {
            assert_eq!(wrong(parameters(json!({"resources": bad})).texts("resources", 5)), "resources");
        }
    }

    #[test]
    fn a_list_has_its_limit() {
        let list = |n: usize| parameters(json!({"resources": vec!["a"; n]})).texts("resources", 3);
        assert_eq!(list(2).expect("taken").len(), 2);
        assert_eq!(list(3).expect("taken").len(), 3);
        assert_eq!(wrong(list(4)), "resources");
    }
}
