// Shows the OpenAPI document beside this page, wherever a proxy puts both.
"use strict";

window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null, // no badge, which a third party would draw
  });
});
