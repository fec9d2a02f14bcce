//! The API's description: what the routes do not say themselves.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder};
use utoipa::openapi::{OpenApi as Description, PathItem};

use super::problem::MEDIA_TYPE;

const ABOUT: &str = "Runs end-to-end tests of mobile apps on the devices at hand. Every error is \
`application/problem+json`; `GET /api/v1/problems` lists the codes. Unknown fields in requests are refused, unknown \
fields in answers must be ignored. `x-request-id` is taken over from the request or made, and returned.";

#[derive(OpenApi)]
#[openapi(
    info(title = "qgjob", description = ABOUT, license(name = "Apache-2.0 OR MIT")),
    components(schemas(
        qgjob_core::api::problem::Problem,
        qgjob_core::api::logs::LogPiece,
        qgjob_core::api::jobs::Resync
    ))
)]
struct Base;

/// The description before the routes are added.
pub fn base() -> Description {
    let mut description = Base::openapi();
    description.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    description.components.get_or_insert_default().add_security_scheme("token", scheme);
    description.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    description
}

/// Adds what holds for all routes: errors, and parameters in paths.
pub fn complete(description: &mut Description) {
    let paths = std::mem::take(&mut description.paths.paths);
    for (path, mut item) in paths {
        // A wildcard is the router's word, not OpenAPI's.
        let path = path.replace("{*", "{");
        operations(&mut item).for_each(|operation| complete_operation(&path, operation));
        description.paths.paths.insert(path, item);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

fn complete_operation(path: &str, operation: &mut Operation) {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description("What went wrong").content(MEDIA_TYPE, content).build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
    let parameters = operation.parameters.get_or_insert_default();
    for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let same = |known: &RefOr<Parameter>| matches!(known, RefOr::T(known) if known.parameter_in == ParameterIn::Path && known.name == name);
        if parameters.iter().any(same) {
            continue;
        }
        let text = ObjectBuilder::new().schema_type(Type::String).build();
        let parameter =
            ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        parameters.push(RefOr::T(parameter.schema(Some(text)).build()));
    }
    // Every module names its own functions `list`, `show` and so on: an id must be unique in all.
    let tag = operation.tags.iter().flatten().next().map_or("other", String::as_str).replace(' ', "_");
    if let Some(id) = &operation.operation_id {
        operation.operation_id = Some(format!("{tag}_{id}"));
    }
}

/// The description as it is committed: JSON, indented, with a line break at the end.
pub fn text() -> String {
    let (_, description) = super::describe();
    serde_json::to_string_pretty(&description).expect("a description is plain data") + "\n"
}
