"""The bodies that the training loop reaches through the table, with their signatures."""

from __future__ import annotations

from numba import types

from . import activation, batchnorm, layer_products, loss, random, sums, update
from .table import reached

linear_rows = reached(layer_products.linear_rows, "MMVM iiiiii VIM")
gradient_rows = reached(layer_products.gradient_rows, "MMM iiiiii VV i")
input_rows = reached(layer_products.input_rows, "MMMM iiiiii V")
column_sums = reached(sums.column_sums, "MV iii")

activate_rows = reached(activation.activate_rows, "iMM iii")
derivative_rows = reached(activation.derivative_rows, "iMMMM iii")

loss_rows = reached(loss.loss_rows, "iMMVF iii")
loss_gradient_rows = reached(loss.loss_gradient_rows, "iMMVfM iii")
pair_rows = reached(loss.pair_rows, "iMMMVfff FM iii")

statistics_columns = reached(batchnorm.statistics_columns, "MVV iii")
running_columns = reached(batchnorm.running_columns, "VVVV if ii")
scale_columns = reached(batchnorm.scale_columns, "VfiVV ii")
normalize_rows = reached(batchnorm.normalize_rows, "MVVVVMM iii")
batchnorm_sums_columns = reached(batchnorm.batchnorm_sums_columns, "MMVV iii")
batchnorm_backward_rows = reached(batchnorm.batchnorm_backward_rows, "MMVVVVViM iii")

dropout_rows = reached(random.dropout_rows, "MUf iiiii iii")
apply_mask_rows = reached(random.apply_mask_rows, "MUf iii")
perturb_rows = reached(random.perturb_rows, "Mf iiii iii")

prepare_rates = reached(update.prepare_rates, "iFfiV")
update_rows = reached(update.update_rows, "iVVMVff iii V")
scale_span = reached(update.scale_span, "Vf ii")
clip_value_span = reached(update.clip_value_span, "Vf ii")
square_sum_block = reached(update.square_sum_block, "V ii", types.float64)
