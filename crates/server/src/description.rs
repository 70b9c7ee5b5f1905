//! What holds for every operation of the description, said once: how failures look, and the shapes of the parameters that
//! many operations take.

use utoipa::openapi::{
    Content, KnownFormat, OpenApi, Ref, RefOr, Response, Schema, SchemaFormat,
    path::{Operation, Parameter, ParameterIn, PathItem},
    response::ResponseBuilder,
    schema::{ObjectBuilder, SchemaType, Type},
};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Completes every operation.
pub(crate) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            for (status, response) in &mut operation.responses.responses {
                if let (true, RefOr::T(response)) = (status.starts_with(['4', '5']), response) {
                    as_problem(response);
                }
            }
            // Every route may be asked for more than it can do, or fail.
            let failure = || RefOr::T(failure());
            operation.responses.responses.entry("5XX".to_owned()).or_insert_with(failure);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    shape(parameter);
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

/// A body that is an RFC 9457 problem says so in its type.
fn as_problem(response: &mut Response) {
    let is_problem = |content: &RefOr<Content>| match content {
        RefOr::T(Content { schema: Some(RefOr::Ref(schema)), .. }) => {
            schema.ref_location.ends_with("Problem") || schema.ref_location.ends_with("ProblemBody")
        }
        _ => false,
    };
    if response.content.get(JSON).is_some_and(is_problem)
        && let Some(content) = response.content.shift_remove(JSON)
    {
        response.content.insert(PROBLEM.to_owned(), content);
    }
}

fn failure() -> Response {
    let content = Content::new(Some(Ref::from_schema_name("ProblemBody")));
    ResponseBuilder::new().description("The server cannot answer").content(PROBLEM, content).build()
}

/// A parameter is there or not, but never null.
fn shape(parameter: &mut Parameter) {
    if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &object.schema_type
        && let Some(kind) = types.iter().find(|kind| !matches!(kind, Type::Null))
    {
        object.schema_type = SchemaType::Type(kind.clone());
    }
    let object = match (&parameter.parameter_in, parameter.name.as_str()) {
        (ParameterIn::Header, "Idempotency-Key") => ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(255))
            .pattern(Some("^[ -~]+$")),
        (ParameterIn::Query, "project_id") => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(1)),
        _ => return,
    };
    parameter.schema = Some(RefOr::T(Schema::Object(object.build())));
}
