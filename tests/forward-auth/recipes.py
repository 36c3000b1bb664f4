"""What Envoy is configured to by the recipes for clusters: the documented fields as their implementations translate them.

The implementations themselves need a cluster; what they make of these fields is written down in their documentation.
"""

import yaml

from programs import text_of


def documents(name):
    return {document["kind"]: document["spec"] for document in yaml.safe_load_all(text_of(name))}


def envoy_gateway():
    """SecurityPolicy and ClientTrafficPolicy of Envoy Gateway."""
    found = documents("envoy-gateway")
    auth, headers = found["SecurityPolicy"]["extAuth"], found["ClientTrafficPolicy"]["headers"]
    assert headers["withUnderscoresAction"] == "DropHeader" and not auth["failOpen"]
    return configuration(
        auth["http"]["path"],
        auth["headersToExtAuth"],
        auth["http"]["headersToBackend"],
        early=headers["earlyRequestHeaders"]["remove"],
        underscores="DROP_HEADER",
    )


def external_auth():
    """HTTPRoute of the Gateway API with its filters ExternalAuth and RequestHeaderModifier."""
    (rule,) = documents("external-auth")["HTTPRoute"]["rules"]
    filters = {one["type"]: one for one in rule["filters"]}
    auth = filters["ExternalAuth"]["externalAuth"]
    assert auth["protocol"] == "HTTP"
    return configuration(
        auth["http"]["path"],
        ["authorization", *auth["http"]["allowedHeaders"]],
        auth["http"]["allowedResponseHeaders"],
        late=filters["RequestHeaderModifier"]["requestHeaderModifier"]["remove"],
    )


def exact(names):
    return {"patterns": [{"exact": name.lower()} for name in names]}


def configuration(prefix, to_auth, to_backend, early=(), late=(), underscores="ALLOW"):
    """A whole configuration of Envoy, at the addresses of the documented one."""
    kind = "type.googleapis.com/envoy.extensions.filters"

    def cluster(name, port):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}

    authorization = {
        "@type": f"{kind}.http.ext_authz.v3.ExtAuthz",
        "allowed_headers": exact(to_auth),
        "http_service": {
            "server_uri": {"uri": "http://127.0.0.1:8081", "cluster": "postern", "timeout": "1s"},
            "path_prefix": prefix,
            "authorization_response": {"allowed_upstream_headers": exact(to_backend)},
        },
    }
    mutation = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "use_remote_address": True,
        "common_http_protocol_options": {"headers_with_underscores_action": underscores},
        "early_header_mutation_extensions": [
            {"name": "early", "typed_config": {"@type": mutation, "mutations": [{"remove": name} for name in early]}}
        ] if early else [],
        "route_config": {
            "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}, "request_headers_to_remove": list(late)}],
            }],
        },
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": authorization},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}},
        ],
    }  # fmt: skip
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8000}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    }
    clusters = [cluster("postern", 8081), cluster("backend", 9000)]
    text = yaml.safe_dump({"static_resources": {"listeners": [listener], "clusters": clusters}}, width=1000)
    # The addresses are replaced as in the documented text, where a space follows each port.
    return "".join(f"{line} \n" for line in text.splitlines())
