// Shows /openapi.json. Everything is set as text, never as markup.
'use strict';

const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

const nameOf = (schema) => {
  if (!schema) return '';
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.oneOf) return schema.oneOf.map(nameOf).join(' or ');
  if (schema.type === 'array') return `list of ${nameOf(schema.items)}`;
  return [].concat(schema.type ?? 'any').join(' or ');
};

// A schema as a skeleton of JSON, references followed as far as a reader would.
const skeleton = (doc, schema, depth = 0) => {
  if (!schema || depth > 5) return '…';
  if (schema.$ref) return skeleton(doc, doc.components.schemas[schema.$ref.split('/').pop()], depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => skeleton(doc, part, depth + 1)));
  if (schema.oneOf) return skeleton(doc, schema.oneOf.find((one) => one.type !== 'null') ?? schema.oneOf[0], depth + 1);
  if (schema.type === 'array') return [skeleton(doc, schema.items, depth + 1)];
  if (schema.properties) {
    const required = new Set(schema.required ?? []);
    return Object.fromEntries(Object.entries(schema.properties).map(
      ([name, inner]) => [required.has(name) ? name : `${name}?`, skeleton(doc, inner, depth + 1)]));
  }
  return nameOf(schema);
};

const showBody = (doc, parent, title, content) => {
  for (const [type, { schema }] of Object.entries(content ?? {})) {
    parent.append(make('p', `${title}: ${nameOf(schema)} (${type})`));
    if (type.includes('json')) parent.append(make('pre', JSON.stringify(skeleton(doc, schema), null, 2)));
  }
};

const showOperation = (doc, path, method, operation) => {
  const details = make('details');
  const summary = make('summary');
  summary.append(make('span', method.toUpperCase(), 'method'), make('code', path), ' ', operation.summary ?? '');
  const scopes = (operation.security ?? []).flatMap((rule) => Object.values(rule).flat());
  summary.append(make('span', scopes.length ? scopes.join(', ') : 'no token', 'scope'));
  details.append(summary);
  details.dataset.text = `${method} ${path} ${operation.summary ?? ''} ${scopes.join(' ')}`.toLowerCase();
  if (operation.description) details.append(make('p', operation.description));
  if (operation.parameters?.length) {
    const table = make('table');
    for (const parameter of operation.parameters) {
      const row = make('tr');
      row.append(make('td', `${parameter.name}${parameter.required ? '' : '?'}`), make('td', parameter.in),
        make('td', nameOf(parameter.schema)), make('td', parameter.description ?? ''));
      table.append(row);
    }
    details.append(table);
  }
  showBody(doc, details, 'Body', operation.requestBody?.content);
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    showBody(doc, details, `Answer ${status}`, response.content);
  }
  return details;
};

const show = (doc) => {
  document.getElementById('about').textContent = doc.info.description;
  const byTag = new Map();
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      if (!operation.responses) continue;
      const tag = operation.tags?.[0] ?? 'other';
      if (!byTag.has(tag)) byTag.set(tag, []);
      byTag.get(tag).push(showOperation(doc, path, method, operation));
    }
  }
  const main = document.getElementById('operations');
  for (const [tag, operations] of byTag) {
    main.append(make('h2', tag), ...operations);
  }
  document.getElementById('filter').addEventListener('input', (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const details of main.querySelectorAll('details')) {
      details.hidden = !details.dataset.text.includes(wanted);
    }
  });
};

fetch('/openapi.json').then((answer) => answer.json()).then(show).catch((error) => {
  document.getElementById('about').textContent = `The description could not be read: ${error}`;
});
