//! Replies of the library, taken apart with errors that name the function.

use redis::Value;

use crate::error::{Error, Result};

/// The elements of one reply, taken in order.
pub(crate) struct Reply {
    function: &'static str,
    items: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn new(function: &'static str, value: Value) -> Result<Self> {
        match value {
            Value::Array(items) => Ok(Self { function, items: items.into_iter() }),
            other => Err(wrong(function, &format!("a list was expected, not {}", kind(&other)))),
        }
    }

    pub(crate) fn wrong(&self, what: &str) -> Error {
        wrong(self.function, what)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn next(&mut self) -> Result<Value> {
        self.items.next().ok_or_else(|| wrong(self.function, "it is too short"))
    }

    pub(crate) fn int(&mut self) -> Result<i64> {
        match self.next()? {
            Value::Int(n) => Ok(n),
            other => Err(wrong(self.function, &format!("a number was expected, not {}", kind(&other)))),
        }
    }

    pub(crate) fn uint(&mut self) -> Result<u64> {
        let n = self.int()?;
        u64::try_from(n).map_err(|_| wrong(self.function, &format!("{n} is negative")))
    }

    /// A number that is -1 where there is none.
    pub(crate) fn maybe_uint(&mut self) -> Result<Option<u64>> {
        Ok(u64::try_from(self.int()?).ok())
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            other => Err(wrong(self.function, &format!("a string was expected, not {}", kind(&other)))),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        // What something else wrote into the queue must not hide all the rest of the reply.
        Ok(String::from_utf8(self.bytes()?)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A string that is empty where there is none.
    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()))
    }

    pub(crate) fn list(&mut self) -> Result<Reply> {
        let function = self.function;
        Reply::new(function, self.next()?)
    }

    /// The list, or none where the library answered nil.
    pub(crate) fn maybe_list(&mut self) -> Result<Option<Reply>> {
        match self.next()? {
            Value::Nil | Value::Boolean(false) => Ok(None),
            value => Reply::new(self.function, value).map(Some),
        }
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>> {
        let mut list = self.list()?;
        (0..list.len()).map(|_| list.text()).collect()
    }
}

fn wrong(function: &'static str, what: &str) -> Error {
    Error::Reply { function, what: what.to_owned() }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "a list",
        _ => "something else",
    }
}
