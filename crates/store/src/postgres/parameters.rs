//! The parameters of a statement that is put together from pieces.

use tokio_postgres::types::ToSql;

use crate::postgres::records::Records;

/// One parameter.
#[derive(Debug)]
pub(super) enum Parameter<'a> {
    /// Rows, as an array of this type of the schema.
    Records(&'static str, Records),
    Texts(Vec<&'a str>),
    Numbers(Vec<i64>),
    Text(&'a str),
    Number(i64),
}

/// The parameters of a statement in the order in which its text names them.
#[derive(Debug, Default)]
pub(super) struct Parameters<'a>(Vec<Parameter<'a>>);

impl<'a> Parameters<'a> {
    /// Adds a parameter; gives back how the text names it.
    pub(super) fn bind(&mut self, parameter: Parameter<'a>) -> String {
        let sql_type = match &parameter {
            Parameter::Records(name, _) => format!("{name}[]"),
            Parameter::Texts(_) => "text[]".to_owned(),
            Parameter::Numbers(_) => "bigint[]".to_owned(),
            Parameter::Text(_) => "text".to_owned(),
            Parameter::Number(_) => "bigint".to_owned(),
        };
        self.0.push(parameter);
        format!("${}::{sql_type}", self.0.len())
    }

    /// `unnest($1::name[]) x`: rows called `x` with the type's fields as columns.
    pub(super) fn rows(&mut self, name: &'static str, records: Records) -> String {
        format!("unnest({}) x", self.bind(Parameter::Records(name, records)))
    }

    pub(super) fn as_sql(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0
            .iter()
            .map(|parameter| -> &(dyn ToSql + Sync) {
                match parameter {
                    Parameter::Records(_, records) => records,
                    Parameter::Texts(texts) => texts,
                    Parameter::Numbers(numbers) => numbers,
                    Parameter::Text(text) => text,
                    Parameter::Number(number) => number,
                }
            })
            .collect()
    }
}
